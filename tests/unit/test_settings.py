"""Environment variables, with an error that names each invalid one."""

import runpy
from pathlib import Path

import boto3
import botocore.session
import pytest

from scoring import settings
from scoring.aws import client
from scoring.errors import SettingsError
from scoring.settings import Account, Settings
from tests.local import template
from tests.unit.conftest import SETTINGS

VARIABLES = {
    "DECISIONS_TABLE": "d",
    "STATS_TABLE": "s",
    "STATS_SHARDS": "64",
    "DECISION_DAYS": "90",
    "PROFILES_TABLE": "p",
    "LISTS_TABLE": "l",
    "PROFILE_DAYS": "30",
    "OUTBOX_URL": "https://q",
}


def test_read() -> None:
    assert settings.read(VARIABLES) == Settings(
        decisions_table="d",
        stats_table="s",
        profiles_table="p",
        lists_table="l",
        stats_shards=64,
        decision_days=90,
        profile_days=30,
        outbox_url="https://q",
    )


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("value", [None, ""])
def test_missing_variable(name: str, value: str | None) -> None:
    variables = {**VARIABLES, name: value or ""}
    if value is None:
        del variables[name]
    with pytest.raises(SettingsError, match=f"Environment variable {name} is not set"):
        settings.read(variables)


@pytest.mark.parametrize("name", ["STATS_SHARDS", "DECISION_DAYS"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", " 64", "٣", "9" * 5000, "1000000"])
def test_not_a_positive_integer(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"Environment variable {name} must be a positive integer"):
        settings.read({**VARIABLES, name: value})


def test_template_sets_every_variable(function_environment: None) -> None:
    assert settings.read() == SETTINGS._replace(stats_shards=64)
    # Read by settings.endpoint, settings.scorer and the loggers.
    others = {"AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS", "POWERTOOLS_SERVICE_NAME", "SCORER"}
    own = {
        "AlertFunction": {"ALERT_TOPIC", "AWS_ENDPOINT_URL_SNS"},
        "StreamFunction": {"DEAD_LETTERS_URL", "PARTIAL_RESPONSES"},
    }
    for name, function in template.functions().items():
        assert function.variables.keys() == VARIABLES.keys() | others | own.get(name, set())


def test_alert_topic() -> None:
    assert settings.alert_topic({"ALERT_TOPIC": "arn"}) == "arn"
    with pytest.raises(SettingsError, match="Environment variable ALERT_TOPIC is not set"):
        settings.alert_topic({})


def test_settings_of_the_stream_function() -> None:
    assert settings.dead_letters_url({"DEAD_LETTERS_URL": "url"}) == "url"
    assert settings.partial_responses({"PARTIAL_RESPONSES": "true"}) is True
    assert settings.partial_responses({"PARTIAL_RESPONSES": "false"}) is False
    with pytest.raises(SettingsError, match="Environment variable DEAD_LETTERS_URL is not set"):
        settings.dead_letters_url({})
    with pytest.raises(SettingsError, match="Environment variable PARTIAL_RESPONSES must be true or false, not 'True'"):
        settings.partial_responses({"PARTIAL_RESPONSES": "True"})


@pytest.mark.parametrize(
    ("variables", "scorer"),
    [
        ({}, "rules"),
        ({"SCORER": ""}, "rules"),
        ({"SCORER": "rules"}, "rules"),
        ({"SCORER": "forest"}, "forest"),
        ({"SCORER": "shadow"}, "shadow"),
    ],
)
def test_scorer(variables: dict[str, str], scorer: str) -> None:
    assert settings.scorer(variables) == scorer


@pytest.mark.parametrize("value", ["Rules", " forest", "forest ", "rules,forest", "shadow\n", "x" * 5000])
def test_unknown_scorer(value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.scorer({"SCORER": value})
    assert str(caught.value) == (
        f"Environment variable SCORER must be one of rules, forest, shadow, not {value[:20]!r}"
    )


@pytest.mark.parametrize(("name", "service"), [("stack", "stack"), ("", "service_undefined")])
def test_service_name_is_never_empty(name: str, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CloudWatch extracts no metric with an empty dimension."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", name)
    assert runpy.run_path(settings.__file__)["SERVICE"] == service


CREDENTIALS = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


def test_account() -> None:
    assert settings.account(CREDENTIALS) == Account("eu-central-1", "key", "secret", session_token="", ca_bundle="")
    more = {"AWS_SESSION_TOKEN": "token", "AWS_CA_BUNDLE": "/etc/roots.pem", "AWS_DEFAULT_REGION": "us-east-1"}
    assert settings.account(CREDENTIALS | more) == Account("eu-central-1", "key", "secret", "token", "/etc/roots.pem")
    assert settings.account(CREDENTIALS | more | {"AWS_REGION": ""}).region == "us-east-1"


@pytest.mark.parametrize("name", CREDENTIALS)
def test_missing_region_or_credential(name: str) -> None:
    shown = name.replace("AWS_REGION", "AWS_DEFAULT_REGION")
    with pytest.raises(SettingsError, match=f"Environment variable {shown} is not set"):
        settings.account({**CREDENTIALS, name: ""})


@pytest.mark.parametrize(
    "region",
    ["eu:west", "[", "..", "a..", "x" * 80, "x@evil.example/", "a/b", "a?b", "a#b", "a\\b", "EU-WEST-1", "a\r\nb"],
)
def test_region_cannot_lead_to_another_host(region: str) -> None:
    with pytest.raises(SettingsError, match=r"^Environment variable AWS_REGION must be a region such as"):
        settings.account({**CREDENTIALS, "AWS_REGION": region})


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_invalid_ca_bundle(content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with pytest.raises(SettingsError, match=r"bundle\.pem' \(AWS_CA_BUNDLE\) cannot be read"):
        client.dynamodb()


@pytest.mark.parametrize("parameter", ["StatsShards", "DecisionDays"])
@pytest.mark.parametrize("bound", ["MinValue", "MaxValue", "Default"])
def test_bounds_of_the_template_are_accepted(parameter: str, bound: str) -> None:
    variable = {"StatsShards": "STATS_SHARDS", "DecisionDays": "DECISION_DAYS"}[parameter]
    assert settings.read({**VARIABLES, variable: str(template.load()["Parameters"][parameter][bound])})


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\rb", "a b", "a\x00", "é", "\udc80", "\x7f"])
def test_header_injection_is_refused(name: str, value: str) -> None:
    """The error does not show the secret."""
    with pytest.raises(SettingsError, match=f"^Environment variable {name} must consist of visible ASCII characters$"):
        settings.account({**CREDENTIALS, name: value})


SESSION = botocore.session.get_session()


@pytest.mark.parametrize("partition", SESSION.get_available_partitions())
@pytest.mark.parametrize("service", ["dynamodb", "sqs"])
def test_endpoint_is_that_of_boto3(service: str, partition: str) -> None:
    regions = SESSION.get_available_regions(service, partition)
    assert regions
    for region in regions:
        client = boto3.client(service, region_name=region)  # type: ignore[call-overload]  # an overload per service
        assert settings.endpoint(service, region, {}) == client.meta.endpoint_url


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"AWS_ENDPOINT_URL_SQS": "http://a:1"}, "http://a:1"),
        ({"AWS_ENDPOINT_URL": "http://b:1"}, "http://b:1"),
        ({"AWS_ENDPOINT_URL": "http://b:1", "AWS_ENDPOINT_URL_SQS": "http://a:1"}, "http://a:1"),
        ({"AWS_ENDPOINT_URL": "http://b:1", "AWS_ENDPOINT_URL_SQS": ""}, "http://b:1"),
        ({"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_DYNAMODB": "http://c:1"}, "https://sqs.eu-central-1.amazonaws.com"),
    ],
)
def test_endpoint_from_the_environment(variables: dict[str, str], expected: str) -> None:
    assert settings.endpoint("sqs", "eu-central-1", variables) == expected


@pytest.mark.parametrize("url", ["http://h_1.example/", "https://h:443", "http://[::1]:8000", "http://127.0.0.1:1"])
def test_valid_endpoint(url: str) -> None:
    assert settings.endpoint("sqs", "eu-central-1", {"AWS_ENDPOINT_URL": url}) == url


@pytest.mark.parametrize(
    "url",
    [
        "h:8000",
        "ftp://h",
        "http://",
        "http://h/path",
        "http://h?query",
        "http://user@h",
        "http://.h",
        f"http://{'h' * 64}",
        "http://é",
        "http://h:port",
        "http://h\n",
        "http://h\r\nX-Injected: 1",
        "http://h:99999",
        "http://h:65536",
        "http://h:0",
        "http://[:::::]:8000",
        "http://[1:2]",
        "http://[12345::]",
    ],
)
def test_invalid_endpoint(url: str) -> None:
    with pytest.raises(SettingsError, match=r"The endpoint of sqs must be http\(s\)://host"):
        settings.endpoint("sqs", "eu-central-1", {"AWS_ENDPOINT_URL": url})
