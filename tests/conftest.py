"""What holds for every test."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.local import account, cloudformation

account.replace()
# Read once, when the first test imports it.
os.environ["POWERTOOLS_SERVICE_NAME"] = cloudformation.LOCAL_NAME
pytest.register_assert_rewrite("tests.sending")
# That the machine has other work to do is no fault of the code. In CI, Hypothesis generates the same in every run.
settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the tests of faults at full length, some minutes")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: there is nothing that CI cannot run."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped in CI: {call.excinfo and call.excinfo.value}"
    return report
