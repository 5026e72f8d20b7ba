"""A scorer that combines a model with a rule set."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scoring.assessment import HIGH_RISK_LEVELS, RISK_LEVELS, Assessment
from scoring.errors import ModelError
from scoring.fields import Field, Fields
from scoring.history import FEATURES, History
from scoring.list_check import ListCheck
from scoring.scorers.forest.inputs import Number
from scoring.scorers.forest.model import Model
from scoring.scorers.rules import RuleSet
from scoring.strict_json import SHOWN_LENGTH
from scoring.transaction import Transaction

if TYPE_CHECKING:
    from scoring.scorers.forest.shapley import Explainer

# Contributions in a response, so that a decision stays small.
MAX_CONTRIBUTIONS = 20
# Transactions of a batch that get contributions, which take as long as hundreds of decisions. Otherwise, a batch of a
# thousand frauds would take longer than the timeout of its function, however often it is sent.
MAX_EXPLAINED = 50

_NUMBERS = frozenset({"number", "integer", "boolean"})


class ForestScorer:
    """Assesses transactions by a model, with the rules as a floor. It is a :class:`~scoring.scorer.Scorer`.

    The level is the higher one of those that the points of the rules and the probability give. Then the floors and
    ceilings of rules apply, so a block list or an allow list counts more than the model. Score, hits and reasons are
    those of the rules.

    The response gets ``fraud`` and ``fraud_probability``; ``unseen``, the names of the fields whose value the model
    does not know; and for HIGH and CRITICAL the ``contributions``, largest first, except as :meth:`for_batch` says.

    Parameters
    ----------
    rules
        The rule set, which declares the fields and histories.
    model
        The model.
    max_explained
        Maximum number of transactions that get contributions; None for no limit.

    Raises
    ------
    ModelError
        The rule set does not declare a fact that the model needs, or declares it with another type.
    """

    def __init__(self, rules: RuleSet, model: Model, max_explained: int | None = None) -> None:
        self.rules = rules
        self.model = model
        self.version = f"{rules.version}+{model.version}"
        self._explainer: Explainer | None = None
        self._max_explained = max_explained
        self._explained: set[int] = set()
        _check_facts(rules, model)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the enabled rules."""
        return self.rules.labels

    @property
    def fields(self) -> Fields:
        """Fields of the rule set."""
        return self.rules.fields

    @property
    def histories(self) -> tuple[History, ...]:
        """Histories of the rule set."""
        return self.rules.histories

    @property
    def lists(self) -> tuple[ListCheck, ...]:
        """Lists that the enabled rules search."""
        return self.rules.lists

    @property
    def list_fields(self) -> Mapping[str, tuple[Field, ...]]:
        """Fields that all rules search lists for."""
        return self.rules.list_fields

    def for_batch(self) -> "ForestScorer":
        """Return a scorer for one batch, which gives contributions for at most MAX_EXPLAINED of its transactions."""
        return ForestScorer(self.rules, self.model, MAX_EXPLAINED)

    def assess(self, transaction: Transaction) -> Assessment:
        """Assess one transaction."""
        row = self.model.inputs.row(transaction.facts)
        probability = self.model.probability(row)
        assessment = self.rules.assess(transaction, self.model.level(probability))
        return assessment._replace(details=self._details(transaction, row, probability, assessment.risk_level))

    def reassess(self, transaction: Transaction, made: Assessment) -> Assessment:
        """Return what :meth:`assess` would have returned in place of an assessment by the rules.

        The rules are not evaluated again, so no list has to be known. Floors and ceilings are monotone: limiting the
        higher one of two levels gives the same as limiting both and taking the higher one. The level in ``made`` is
        limited already, and is not below a floor, so only the model's level has to be limited, by the ceilings of the
        hits. Hits of rules that are no longer in the rule set have no ceiling.

        Parameters
        ----------
        transaction
            The transaction, with its history.
        made
            What the rules said about it.
        """
        row = self.model.inputs.row(transaction.facts)
        probability = self.model.probability(row)
        allowed = min(self.model.level(probability), self.rules.ceiling(made.triggered_rules))
        level = RISK_LEVELS[max(allowed, RISK_LEVELS.index(made.risk_level))]
        return made._replace(risk_level=level, details=self._details(transaction, row, probability, level))

    def _details(
        self, transaction: Transaction, row: list[float], probability: float, risk_level: str
    ) -> dict[str, Any]:
        """Return the fields that the model adds to the response."""
        details: dict[str, Any] = {"fraud": probability >= self.model.fraud_threshold, "fraud_probability": probability}
        if unseen := self.model.inputs.unseen(transaction.facts):
            details["unseen"] = unseen
        if risk_level in HIGH_RISK_LEVELS and self._explains(transaction):
            details["contributions"] = self._contributions(row, transaction)
        return details

    def _explains(self, transaction: Transaction) -> bool:
        """Return whether a transaction gets contributions. One that is assessed again, by its history, counts once."""
        if self._max_explained is None:
            return True
        # Identifies the transaction as long as the batch is being recorded.
        values = id(transaction.values)
        if len(self._explained) < self._max_explained:
            self._explained.add(values)
        return values in self._explained

    def _contributions(self, row: list[float], transaction: Transaction) -> list[dict[str, Any]]:
        """Return the contribution of each feature that has one, largest first; columns of one category are added."""
        if not self._explainer:
            # Created here, since most environments decide many transactions before the first alert.
            from scoring.scorers.forest.shapley import Explainer  # noqa: PLC0415

            self._explainer = Explainer(self.model)
        inputs = self.model.inputs
        sums = [0.0] * len(inputs.features)
        for owner, contribution in zip(inputs.owners, self._explainer.contributions(row), strict=True):
            sums[owner] += contribution
        values = {**self.fields.defaults, **transaction.derived, **transaction.values}
        found = [
            {"feature": feature.fact, "value": _shown(values.get(feature.fact)), "contribution": contribution}
            for feature, contribution in zip(inputs.features, sums, strict=True)
            if contribution
        ]
        largest = sorted(found, key=lambda one: -abs(one["contribution"]))[:MAX_CONTRIBUTIONS]
        return sorted(largest, key=lambda one: -one["contribution"])


def _shown(value: Any) -> Any:
    """Return a value as reasons quote it."""
    return f"{value[: SHOWN_LENGTH - 1]}…" if isinstance(value, str) and len(value) > SHOWN_LENGTH else value


def _check_facts(rules: RuleSet, model: Model) -> None:
    types = {field.name: field.type for field in rules.fields.declared}
    for history in rules.histories:
        types.update({f"{history.name}.{feature}": kind for feature, kind in FEATURES.items()})
    for feature in model.inputs.features:
        found = types.get(feature.fact)
        if found is None:
            raise ModelError(
                f"Model {model.version!r} needs {feature.fact!r}, which rule set {rules.version!r} does not declare"
            )
        if isinstance(feature, Number) != (found in _NUMBERS) or found == "time":
            expected = "a number or boolean" if isinstance(feature, Number) else "a string"
            raise ModelError(
                f"Model {model.version!r} needs {feature.fact!r} as {expected}; rule set {rules.version!r} declares it "
                f"as {found}"
            )
