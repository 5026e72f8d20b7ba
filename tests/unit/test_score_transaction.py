import copy
from typing import Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from scoring import score_transaction, scorers
from scoring.fields import BUILT_IN
from tests.rule_set import RULE_SET
from tests.unit.strategies import TRANSACTIONS

NAMES = {field.name for field in BUILT_IN}


@given(
    TRANSACTIONS,
    st.dictionaries(st.text().filter(lambda name: name not in NAMES), st.text()),
)
def test_unknown_fields_are_ignored(tx: dict[str, Any], unknown: dict[str, str]) -> None:
    extended = {**unknown, **tx}
    before = copy.deepcopy(extended)
    with patch.object(scorers, "load", lambda: RULE_SET):
        assert score_transaction(extended) == score_transaction(tx) == score_transaction(extended)
    assert extended == before
