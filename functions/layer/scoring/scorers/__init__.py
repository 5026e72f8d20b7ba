"""Scorers assess transactions. :func:`load` returns the one that the service uses."""

import functools
import os
from typing import TYPE_CHECKING

from scoring.scorers import rules_loader

if TYPE_CHECKING:
    from scoring.scorer import Scorer

# pathlib would add a tenth to the start of the function.
RULES_FILE = os.path.join(os.path.dirname(__file__), "rules.json")  # noqa: PTH118, PTH120


@functools.cache
def load() -> "Scorer":
    """Return the scorer of the service, loaded once per process.

    Raises
    ------
    RuleSetError
        The rule set is invalid; the text names the file, the rule and the problem.
    """
    return rules_loader.from_file(RULES_FILE)
