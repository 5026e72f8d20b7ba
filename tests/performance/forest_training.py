"""Train the forest that ``make bench`` compares, for this service and for scikit-learn.

    PYTHONPATH=functions/layer .tools/offline/bin/python -m tests.performance.forest_training FOLDER

Its features are amount, hour and category, so that decisions need no history. Writes to FOLDER:

- ``forest.model``, the model of this service,
- ``forest.pickle``, the same as scikit-learn's object, with what a function needs to use it,
- ``samples.json``: transactions from the newest part of the data, of which one is an alert, about as many as in all of
  it; and what scikit-learn says about each.
"""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

from events import rows
from functions.offline import train, training_data
from functions.offline.train import Size
from scoring.assessment import RISK_LEVELS
from scoring.scorers import rules_loader
from scoring.scorers.forest.inputs import Number
from tests.rule_set import DOCUMENT

DATA = Path(__file__).parents[1] / "data" / "sparkov_slim.csv.gz"
# That of the default model
SIZE = Size(40, 11)
SAMPLES = 100
# Fields of a transaction, without those that lead to a history
FIELDS = ("tx_id", "amount", "store", "category", "hour")


def main() -> None:
    """Train, and write the files."""
    folder = Path(sys.argv[1])
    rule_set = rules_loader.from_document({name: part for name, part in DOCUMENT.items() if name != "histories"})
    data = training_data.read(DATA, rule_set, "is_fraud", {})
    trained = train.train(data, rule_set.version, "forest", SIZE)
    model = trained.card.model
    pickled = {
        "version": model.version,
        "features": [
            (one.fact, one.missing, ()) if isinstance(one, Number) else (one.fact, None, one.values)
            for one in model.inputs.features
        ],
        "thresholds": {RISK_LEVELS[level]: minimum for level, minimum in model.levels},
        "forest": trained.fitted.library_model,
    }
    sent = [json.loads(row.body) for row in rows.read(DATA, dict)]
    samples = []
    for index in _choose(trained.card.test.probabilities, model.fraud_threshold):
        probability = float(trained.card.test.probabilities[index])
        transaction = sent[trained.card.test.indexes[index]]
        samples.append(
            {
                "transaction": {name: transaction[name] for name in FIELDS},
                "probability": probability,
                "level": sum(probability >= minimum for _, minimum in model.levels),
            }
        )
    folder.mkdir()
    (folder / "forest.model").write_bytes(trained.content)
    (folder / "forest.pickle").write_bytes(pickle.dumps(pickled))
    (folder / "samples.json").write_text(json.dumps(samples), encoding="utf-8")


def _choose(probabilities: Any, fraud_threshold: float) -> list[int]:
    """Return the positions of the samples: at equal distances, with one alert in the middle."""
    others, alerts = np.flatnonzero(probabilities < fraud_threshold), np.flatnonzero(probabilities >= fraud_threshold)
    chosen: list[int] = others[np.linspace(0, len(others) - 1, SAMPLES - 1).astype(int)].tolist()
    chosen.insert(SAMPLES // 2, int(alerts[len(alerts) // 2]))
    return chosen


if __name__ == "__main__":
    main()
