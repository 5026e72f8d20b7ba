"""Environment variables: all read in one place, and each one that is wrong is named."""

import pytest

from scoring import settings
from scoring.errors import SettingsError
from scoring.settings import Settings
from tests.local import template

VARIABLES = {
    "DECISIONS_TABLE": "d",
    "STATS_TABLE": "s",
    "STATS_SHARDS": "64",
    "DECISION_DAYS": "90",
    "OUTBOX_URL": "https://q",
}


def test_read() -> None:
    assert settings.read(VARIABLES) == Settings(
        decisions_table="d", stats_table="s", stats_shards=64, decision_days=90, outbox_url="https://q"
    )


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("value", [None, ""])
def test_missing(name: str, value: str | None) -> None:
    variables = {**VARIABLES, name: value or ""}
    if value is None:
        del variables[name]
    with pytest.raises(SettingsError, match=f"Environment variable {name} is not set"):
        settings.read(variables)


@pytest.mark.parametrize("name", ["STATS_SHARDS", "DECISION_DAYS"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", " 64", "٣"])
def test_not_a_positive_integer(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"Environment variable {name} must be a positive integer"):
        settings.read({**VARIABLES, name: value})


def test_the_template_sets_every_variable_that_is_read(function_environment: None) -> None:
    assert settings.read() == Settings(
        decisions_table="DecisionsTable",
        stats_table="StatsTable",
        stats_shards=64,
        decision_days=90,
        outbox_url="OutboxQueue",
    )
    # What boto3 and powertools read by themselves
    others = {"AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS", "POWERTOOLS_SERVICE_NAME"}
    for function in template.functions().values():
        assert function.variables.keys() == VARIABLES.keys() | others
