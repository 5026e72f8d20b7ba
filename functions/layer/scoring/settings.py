"""The environment variables of the functions, read and checked in this one place."""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from scoring.errors import SettingsError

# Set in the containers of `sam local`, by SAM CLI.
SAM_LOCAL = bool(os.environ.get("AWS_SAM_LOCAL"))

# Of the logs and metrics: the name of the stack. Powertools reads the same variable.
SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME") or "service_undefined"

# Of the endpoints of regions that begin like this, in place of amazonaws.com
_DOMAINS = {
    "cn": "amazonaws.com.cn",
    "eusc-de": "amazonaws.eu",
    "us-iso": "c2s.ic.gov",
    "us-isob": "sc2s.sgov.gov",
    "us-isof": "csp.hci.ic.gov",
    "eu-isoe": "cloud.adc-e.uk",
}

_SERVER = r"https?://([\w-]{1,63}(\.[\w-]{1,63})*|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?/?"

# More digits than any setting needs.
_MAX_DIGITS = 6


class Settings(NamedTuple):
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


class Account(NamedTuple):
    """What Lambda tells a function of the account that it runs in.

    Attributes
    ----------
    region
        Such as ``eu-central-1``.
    access_key, secret_key, session_token
        Of the function's role; they outlast the execution environment. Without a role there is no token: empty.
    ca_bundle
        File of the authorities that are trusted in place of Amazon's; empty for those.
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
        stats_shards=_positive(environment, "STATS_SHARDS"),
        decision_days=_positive(environment, "DECISION_DAYS"),
        outbox_url=_text(environment, "OUTBOX_URL"),
    )


def account(environment: Mapping[str, str] = os.environ) -> Account:
    """Read region and credentials, from the variables that Lambda sets.

    Raises
    ------
    SettingsError
        A variable is missing or empty, or has a character that no header may contain; the text names it, and does not
        show it.
    """
    return Account(
        region=_region(environment, "AWS_REGION" if environment.get("AWS_REGION") else "AWS_DEFAULT_REGION"),
        access_key=_visible(environment, "AWS_ACCESS_KEY_ID"),
        secret_key=_visible(environment, "AWS_SECRET_ACCESS_KEY"),
        session_token=_visible(environment, "AWS_SESSION_TOKEN") if environment.get("AWS_SESSION_TOKEN") else "",
        ca_bundle=environment.get("AWS_CA_BUNDLE", ""),
    )


def endpoint(service: str, region: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the URL of a service: its public endpoint or, as for boto3, the one in ``AWS_ENDPOINT_URL...``.

    Raises
    ------
    SettingsError
        The variable is not the address of a server, or has more than that.
    """
    given = environment.get(f"AWS_ENDPOINT_URL_{service.upper()}") or environment.get("AWS_ENDPOINT_URL")
    if not given:
        return f"https://{service}.{region}.{_DOMAINS.get(region.rsplit('-', 2)[0], 'amazonaws.com')}"
    if not _is_server(given):
        raise SettingsError(f"The endpoint of {service} must be http(s)://host or http(s)://host:port, not {given!r}")
    return given


def _is_server(url: str) -> bool:
    from urllib.parse import urlsplit  # noqa: PLC0415  only emulators need it, and importing it costs every cold start

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
    """Return a region, which becomes a part of a host name."""
    value = _text(environment, name)
    if not re.fullmatch(r"[a-z0-9-]{1,32}", value):
        raise SettingsError(f"Environment variable {name} must be a region such as eu-central-1, not {value[:32]!r}")
    return value


def _visible(environment: Mapping[str, str], name: str) -> str:
    """Return a value that goes into the head of a request, or into its signature."""
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
