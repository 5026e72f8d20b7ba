"""A small model for the tests' rule set, so that tests do not depend on ``forest.model``."""

from scoring.scorers.forest.inputs import Category, Inputs, Number
from scoring.scorers.forest.model import MEAN, Model, Node
from scoring.scorers.forest.scorer import ForestScorer
from tests.rule_set import RULE_SET

AMOUNT, COUNT, ELECTRONICS = range(3)
TREES: list[Node] = [
    (AMOUNT, 50.0, 0.0, (AMOUNT, 500.0, 0.3, 1.0)),
    (COUNT, 2.0, (ELECTRONICS, 0.5, 0.0, 0.6), 1.0),
]
MODEL = Model(
    version="small",
    inputs=Inputs([Number("amount", 0.0), Number("customer.count_1h", 0.0), Category("category", ("electronics",))]),
    link=MEAN,
    trees=TREES,
    covers=(70.0, 20.0, 10.0, 60.0, 30.0, 10.0),
    levels=((3, 0.9), (2, 0.5), (1, 0.2)),
    fraud_threshold=0.5,
    about={},
)
FOREST = ForestScorer(RULE_SET, MODEL)
