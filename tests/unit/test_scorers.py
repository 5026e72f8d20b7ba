"""Which scorer decides: the rules, or a model with the rules as a floor."""

import json
from pathlib import Path

import pytest

from scoring import scorers
from scoring.errors import ModelError, RuleSetError, SettingsError
from scoring.scorers.forest.inputs import Number
from scoring.scorers.forest.scorer import ForestScorer
from scoring.scorers.rules import RuleSet
from tests import forests, rule_set

# Without the cache, which other tests use
load = scorers.load.__wrapped__
load_rules = scorers.load_rules.__wrapped__


@pytest.fixture
def model_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the shipped model and rule set by those of the tests."""
    (tmp_path / "rules.json").write_text(json.dumps(rule_set.DOCUMENT))
    path = forests.write(tmp_path / "forest.model")
    monkeypatch.setattr(scorers, "load_rules", load_rules)
    monkeypatch.setattr(scorers, "RULES_FILE", str(tmp_path / "rules.json"))
    monkeypatch.setattr(scorers, "MODEL_FILE", str(path))
    return path


@pytest.mark.parametrize("value", [None, "", "rules", "shadow"])
def test_rules_decide(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is read, so there need not be one."""
    monkeypatch.setattr(scorers, "MODEL_FILE", "missing.model")
    if value is None:
        monkeypatch.delenv("SCORER", raising=False)
    else:
        monkeypatch.setenv("SCORER", value)
    assert isinstance(load(), RuleSet)


def test_model_decides(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER", "forest")
    scorer = load()
    assert isinstance(scorer, ForestScorer)
    assert scorer.version == "1.0-tests+2.0-tests"
    assert scorer.model.trees == forests.SMALL.trees


def test_unknown_scorer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER", "Forest")
    with pytest.raises(SettingsError, match=r"^Environment variable SCORER must be one of rules, forest, shadow, not"):
        load()


def test_scorer_is_loaded_once() -> None:
    assert scorers.load() is scorers.load()


def test_damaged_model(model_path: Path) -> None:
    model_path.write_bytes(model_path.read_bytes() + b"x")
    with pytest.raises(ModelError, match=r"^forest\.model: The model is damaged: "):
        scorers.load_forest()


def test_missing_model(model_path: Path) -> None:
    model_path.unlink()
    with pytest.raises(ModelError, match=r"^forest\.model: The file cannot be read: No such file or directory$"):
        scorers.load_forest()


def test_invalid_rule_set(model_path: Path) -> None:
    model_path.with_name("rules.json").write_text("{}")
    with pytest.raises(RuleSetError, match=r"^rules\.json: The rule set lacks 'levels'$"):
        scorers.load_forest()


def test_model_that_does_not_fit_the_rule_set(model_path: Path) -> None:
    forests.write(model_path, forests.model((0.5, 1.0), features=[Number("velocity", 0.0)]))
    with pytest.raises(
        ModelError, match=r"^Model '2\.0-tests' needs 'velocity', which rule set '1\.0-tests' does not declare$"
    ):
        scorers.load_forest()
