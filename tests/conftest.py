"""Settings of all tests."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.local import account, cloudformation

account.replace()
# Powertools reads it when it is first imported.
os.environ["POWERTOOLS_SERVICE_NAME"] = cloudformation.LOCAL_NAME
pytest.register_assert_rewrite("tests.sending")
# A busy machine must not fail a test. In CI, Hypothesis generates the same examples in every run.
settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the fault tests at full length, about 25 minutes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure in CI, which can run every test."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {call.excinfo and call.excinfo.value}"
    return report
