import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scoring import score_transaction
from tests.unit.strategies import TRANSACTIONS


@given(
    TRANSACTIONS,
    st.dictionaries(
        st.text().filter(lambda name: name not in {"amount", "hour", "category", "store", "tx_id"}), st.text()
    ),
)
def test_unknown_fields_are_ignored(tx: dict[str, Any], unknown: dict[str, str]) -> None:
    extended = {**unknown, **tx}
    before = copy.deepcopy(extended)
    assert score_transaction(extended) == score_transaction(tx) == score_transaction(extended)
    assert extended == before
