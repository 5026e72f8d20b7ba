"""The number of requests that each property-based test generates, and its Hypothesis settings."""

from hypothesis import HealthCheck, settings

from tests.local.template import ROOT

OPENAPI_FILE = ROOT / "functions" / "layer" / "scoring" / "openapi.json"

SHARES = {
    "bodies to score": 4_500,
    "headers to score": 1_500,
    "bodies to echo": 1_500,
    "lookups": 1_500,
    "paths and methods": 1_000,
    "the API": 400,
}


def generating(name: str) -> settings:
    """Return settings that generate a test's share of requests, the same in every run."""
    return settings(
        max_examples=SHARES[name],
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
