"""Scorers assess transactions.

:func:`load` returns the one that decides. :func:`load_rules` is for functions that decide nothing, so that they neither
wait for a model nor fail with it.
"""

import functools
import os
from typing import TYPE_CHECKING

from scoring import settings
from scoring.scorers import rules_loader

if TYPE_CHECKING:
    from scoring.scorer import Scorer
    from scoring.scorers.forest.scorer import ForestScorer
    from scoring.scorers.rules import RuleSet

# pathlib would add a tenth to the start of the function.
_FOLDER = os.path.dirname(__file__)  # noqa: PTH120
RULES_FILE = os.path.join(_FOLDER, "rules.json")  # noqa: PTH118
MODEL_FILE = os.path.join(_FOLDER, "forest.model")  # noqa: PTH118


@functools.cache
def load() -> "Scorer":
    """Return the scorer that decides, loaded once per process: the rule set, or a model with the rule set as a floor.

    Raises
    ------
    ConfigurationError
        As for :func:`load_forest`, or the environment variable ``SCORER`` is invalid.
    """
    return load_forest() if settings.scorer() == "forest" else load_rules()


@functools.cache
def load_rules() -> "RuleSet":
    """Return the rule set, loaded once per process.

    Raises
    ------
    RuleSetError
        The rule set is invalid; the text names the file and the problem.
    """
    return rules_loader.from_file(RULES_FILE)


def load_forest() -> "ForestScorer":
    """Return the model with the rule set as a floor.

    Raises
    ------
    RuleSetError, ModelError
        The rule set or the model is invalid, or they do not fit together; the text names the file, or the versions of
        both, and the problem.
    """
    # Imported here, since rules alone do not need it.
    from scoring.scorers.forest import model_file  # noqa: PLC0415
    from scoring.scorers.forest.scorer import ForestScorer  # noqa: PLC0415

    return ForestScorer(load_rules(), model_file.from_file(MODEL_FILE))
