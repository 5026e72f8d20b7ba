"""The card payments and the models that are trained on them, shared by the tests of training."""

import pytest

from functions.offline import train, training_data
from functions.offline.train import Size, Trained
from functions.offline.training_data import Data
from scoring import scorers
from scoring.scorers import rules_loader
from tests.local.template import ROOT

PAYMENTS = ROOT / "tests" / "data" / "sparkov_slim.csv.gz"
RULE_SET = rules_loader.from_file(scorers.RULES_FILE)


@pytest.fixture(scope="session")
def data() -> Data:
    """Return the card payments with their histories."""
    return training_data.read(PAYMENTS, RULE_SET, "is_fraud", {})


@pytest.fixture(scope="session")
def forest(data: Data) -> Trained:
    """Return the default model, trained again."""
    return train.train(data, RULE_SET.version, "forest", train.SIZES["forest"])


@pytest.fixture(scope="session")
def boosted(data: Data) -> Trained:
    """Return a model of LightGBM."""
    return train.train(data, RULE_SET.version, "lightgbm", Size(trees=100, depth=0))
