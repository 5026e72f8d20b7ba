"""The interface of scorers. Imported for type checks only, since a protocol takes a while to create."""

from collections.abc import Mapping
from typing import Protocol

from scoring.assessment import Assessment
from scoring.fields import Field, Fields
from scoring.history import History
from scoring.list_check import ListCheck
from scoring.transaction import Transaction


class Scorer(Protocol):
    """Assesses transactions. The same transaction, history, list entries and version give the same assessment.

    History and lists are facts that the service adds to a transaction: ``customer.count_1h``, for example, and
    :attr:`ListCheck.fact`. A fact that is unknown is missing.
    """

    @property
    def version(self) -> str:
        """Version, stored and returned with every decision."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that ``triggered_rules`` can contain, in order."""

    @property
    def fields(self) -> Fields:
        """Fields that transactions can have."""

    @property
    def histories(self) -> tuple[History, ...]:
        """Histories that decisions depend on."""

    @property
    def lists(self) -> tuple[ListCheck, ...]:
        """Lists that decisions depend on, with the field whose value each is searched for."""

    @property
    def list_fields(self) -> Mapping[str, tuple[Field, ...]]:
        """By the name of a list, the fields that all rules, also disabled ones, search it for."""

    def for_batch(self) -> "Scorer":
        """Return a scorer for the transactions of one batch. It gives the same assessments, but may say less why."""

    def assess(self, transaction: Transaction) -> Assessment:
        """Assess one transaction that :attr:`fields` has read."""
