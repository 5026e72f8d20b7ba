"""The environment variables of the functions, read and checked in this one place."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from scoring.errors import SettingsError

# Set in the containers of `sam local`, by SAM CLI.
SAM_LOCAL = bool(os.environ.get("AWS_SAM_LOCAL"))


@dataclass(frozen=True, slots=True)
class Settings:
    """What the template tells the functions that use the store.

    Attributes
    ----------
    decisions_table, stats_table
        Names of the tables.
    stats_shards
        Number of counter shards, at least 1.
    decision_days
        Days for which a decision is kept, at least 1.
    outbox_url
        Of the queue for decisions that the store did not take.
    """

    decisions_table: str
    stats_table: str
    stats_shards: int
    decision_days: int
    outbox_url: str


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises
    ------
    SettingsError
        A variable is missing, empty or out of range; the text names it.
    """
    return Settings(
        decisions_table=_text(environment, "DECISIONS_TABLE"),
        stats_table=_text(environment, "STATS_TABLE"),
        stats_shards=_positive(environment, "STATS_SHARDS"),
        decision_days=_positive(environment, "DECISION_DAYS"),
        outbox_url=_text(environment, "OUTBOX_URL"),
    )


def _text(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingsError(f"Environment variable {name} is not set")
    return value


def _positive(environment: Mapping[str, str], name: str) -> int:
    value = _text(environment, name)
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise SettingsError(f"Environment variable {name} must be a positive integer, not {value!r}")
    return int(value)
