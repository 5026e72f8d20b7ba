"""Sizes, costs and the comparison are those of the tests' own rule set."""

from collections.abc import Iterator

import pytest

from scoring import scorers
from tests import rule_set


@pytest.fixture(autouse=True, scope="module")
def own_rules() -> Iterator[None]:
    """Let everything in this process decide by the tests' own rules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorers, "load", lambda: rule_set.RULE_SET)
        yield
