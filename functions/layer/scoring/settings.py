"""The environment variables of the functions, read and checked in one place."""

import os
from collections.abc import Mapping
from typing import NamedTuple

from scoring.errors import SettingsError

# SAM CLI sets this variable in the containers of `sam local`.
SAM_LOCAL = bool(os.environ.get("AWS_SAM_LOCAL"))

# The stack's name, in logs and metrics. Powertools reads the same variable.
SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME") or "service_undefined"

# Domains of endpoints by the prefix of the region; amazonaws.com for all others.
_DOMAINS = {
    "cn": "amazonaws.com.cn",
    "eusc-de": "amazonaws.eu",
    "us-iso": "c2s.ic.gov",
    "us-isob": "sc2s.sgov.gov",
    "us-isof": "csp.hci.ic.gov",
    "eu-isoe": "cloud.adc-e.uk",
}

# What decides: the rules; a model, with the rules as a floor; or the rules, while a model only gives its opinion.
SCORERS = ("rules", "forest", "shadow")

# A URL of scheme, host and port only.
_SERVER = r"https?://([\w-]{1,63}(\.[\w-]{1,63})*|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?/?"

_MAX_DIGITS = 6
_MAX_REGION_LENGTH = 32
# A set, since compiling a regular expression would slow down every cold start.
_REGION_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


class Settings(NamedTuple):
    """Settings of the functions that use the store, from the template.

    Attributes
    ----------
    decisions_table, stats_table, profiles_table, lists_table
        Names of the tables.
    stats_shards
        Number of counter shards, at least 1.
    decision_days, profile_days
        Days before a decision expires, and a profile after its last transaction; at least 1.
    outbox_url
        URL of the outbox queue.
    """

    decisions_table: str
    stats_table: str
    profiles_table: str
    lists_table: str
    stats_shards: int
    decision_days: int
    profile_days: int
    outbox_url: str


class Account(NamedTuple):
    """Region and credentials of a function, from Lambda.

    Attributes
    ----------
    region
        Such as ``eu-central-1``.
    access_key, secret_key, session_token
        Credentials of the function's role, which outlive the execution environment. The token is empty for
        the keys of an IAM user.
    ca_bundle
        File of trusted certificate authorities; empty for the default ones.
    """

    region: str
    access_key: str
    secret_key: str
    session_token: str
    ca_bundle: str


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
        profiles_table=_text(environment, "PROFILES_TABLE"),
        lists_table=_text(environment, "LISTS_TABLE"),
        stats_shards=_positive(environment, "STATS_SHARDS"),
        decision_days=_positive(environment, "DECISION_DAYS"),
        profile_days=_positive(environment, "PROFILE_DAYS"),
        outbox_url=_text(environment, "OUTBOX_URL"),
    )


def scorer(environment: Mapping[str, str] = os.environ) -> str:
    """Return which of :data:`SCORERS` decides; ``rules`` if the variable is not set, as for callers in Python.

    Raises
    ------
    SettingsError
        The variable has another value.
    """
    value = environment.get("SCORER") or SCORERS[0]
    if value not in SCORERS:
        raise SettingsError(f"Environment variable SCORER must be one of {', '.join(SCORERS)}, not {value[:20]!r}")
    return value


def alert_topic(environment: Mapping[str, str] = os.environ) -> str:
    """Return the ARN of the topic of alerts.

    Raises
    ------
    SettingsError
        The variable is missing or empty.
    """
    return _text(environment, "ALERT_TOPIC")


def dead_letters_url(environment: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the queue of Kafka records that can never be scored.

    Raises
    ------
    SettingsError
        The variable is missing or empty.
    """
    return _text(environment, "DEAD_LETTERS_URL")


def partial_responses(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the mapping of the stream function accepts partial responses: in provisioned mode only.

    Raises
    ------
    SettingsError
        The variable is missing or invalid.
    """
    value = _text(environment, "PARTIAL_RESPONSES")
    if value not in {"true", "false"}:
        raise SettingsError(f"Environment variable PARTIAL_RESPONSES must be true or false, not {value[:20]!r}")
    return value == "true"


def account(environment: Mapping[str, str] = os.environ) -> Account:
    """Read region and credentials.

    Raises
    ------
    SettingsError
        A variable is missing or empty, or has a character that a header must not contain. The text names the variable
        and does not show its value.
    """
    return Account(
        region=_region(environment, "AWS_REGION" if environment.get("AWS_REGION") else "AWS_DEFAULT_REGION"),
        access_key=_visible(environment, "AWS_ACCESS_KEY_ID"),
        secret_key=_visible(environment, "AWS_SECRET_ACCESS_KEY"),
        session_token=_visible(environment, "AWS_SESSION_TOKEN") if environment.get("AWS_SESSION_TOKEN") else "",
        ca_bundle=environment.get("AWS_CA_BUNDLE", ""),
    )


def endpoint(service: str, region: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the URL of a service: its public endpoint, or the one in ``AWS_ENDPOINT_URL...``, as in boto3.

    Raises
    ------
    SettingsError
        The variable is not a URL of scheme, host and port.
    """
    given = environment.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environment.get("AWS_ENDPOINT_URL")
    if not given:
        return f"https://{service}.{region}.{_DOMAINS.get(region.rsplit('-', 2)[0], 'amazonaws.com')}"
    if not _is_server(given):
        raise SettingsError(f"The endpoint of {service} must be http(s)://host or http(s)://host:port, not {given!r}")
    return given


def _is_server(url: str) -> bool:
    # Imported here, since only emulators set an endpoint, and the imports would slow down every cold start.
    import re  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415

    try:
        # Raises for a port above 65535 and for brackets around anything but an IPv6 address.
        return re.fullmatch(_SERVER, url, re.ASCII) is not None and urlsplit(url).port != 0
    except ValueError:
        return False


def _text(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingsError(f"Environment variable {name} is not set")
    return value


def _region(environment: Mapping[str, str], name: str) -> str:
    """Return a region that is safe to use in a host name."""
    value = _text(environment, name)
    if len(value) > _MAX_REGION_LENGTH or not set(value) <= _REGION_CHARACTERS:
        raise SettingsError(f"Environment variable {name} must be a region such as eu-central-1, not {value[:32]!r}")
    return value


def _visible(environment: Mapping[str, str], name: str) -> str:
    """Return a value that is safe to use in a header or a signature."""
    value = _text(environment, name)
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise SettingsError(f"Environment variable {name} must consist of visible ASCII characters")
    return value


def _positive(environment: Mapping[str, str], name: str) -> int:
    value = _text(environment, name)
    if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS and int(value) > 0):
        raise SettingsError(
            f"Environment variable {name} must be a positive integer of up to {_MAX_DIGITS} digits, not {value[:20]!r}"
        )
    return int(value)
