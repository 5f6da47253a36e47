"""What holds for every test: it leaves nothing behind, wherever it is run, and says how to repeat what it has found."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Generator, Iterator

import hypothesis
import pluggy
import pytest

from .support import leaks, machine
from .support.tally import PROPERTY, table

# Runs projects of their own, with the package's pytest plugin.
pytest_plugins = ["pytester"]

# In CI a property test tries the same examples every time, so that a red run speaks of the change and not of chance.
# Without deadlines, as the machine may be busy with another interpreter's tests.
hypothesis.settings.register_profile("default", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True)
hypothesis.settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    machine.forget_settings()
    machine.heed_signals()
    config.addinivalue_line(
        "markers", "leaks_allowed(reason): the test may leave threads, descriptors, children or temporary files behind"
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    outcome = yield
    report = outcome.get_result()
    # What was logged may hold half a surrogate pair, which cannot go from a worker of xdist to its controller.
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Here, since a conftest further down is not loaded in xdist's controller.
    rows = [
        row
        for reports in terminalreporter.stats.values()
        for report in reports
        # Only teardown's, for each report repeats what came before it.
        if getattr(report, "when", None) == "teardown"
        for name, value in report.user_properties
        if name == PROPERTY
        for row in value
    ]
    for line in table(rows):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def own_temporary_directory() -> Iterator[None]:
    """Keep this run's temporary files apart, so that runs at the same time do not see each other's as leaks."""
    shared = tempfile.gettempdir()
    # Short names, since the paths of Unix sockets are limited to about a hundred bytes.
    with tempfile.TemporaryDirectory(prefix="t-") as own, pytest.MonkeyPatch.context() as patch:
        # pytest's own stay where they are, for a look at them after a failure.
        if "PYTEST_DEBUG_TEMPROOT" not in os.environ:
            patch.setenv("PYTEST_DEBUG_TEMPROOT", shared)
        patch.setenv("TMPDIR", own)
        patch.setattr(tempfile, "tempdir", own)
        yield


@pytest.fixture(scope="session", autouse=True)
def names_are_looked_up_at_home() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", machine.look_up_at_home)
        yield


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread, a descriptor, a child process or a temporary file behind.

    Being an automatic fixture of the test's own scope, it looks before the test's other fixtures are set up and after
    they are torn down, and when those of wider scopes are there already and still.
    """
    marker = request.node.get_closest_marker("leaks_allowed")
    if marker is not None:
        if len(marker.args) != 1 or not isinstance(marker.args[0], str) or marker.kwargs:
            pytest.fail('leaks_allowed needs its reason: @pytest.mark.leaks_allowed("why")', pytrace=False)
        yield
        return
    failed_before = request.session.testsfailed
    before = leaks.Snapshot.take()
    yield
    # A failed test's traceback keeps its local variables, and so its sockets, alive: that is not a second fault.
    if request.session.testsfailed > failed_before:
        return
    found = leaks.leaks_since(before)
    if found:
        pytest.fail("left behind:\n  " + "\n  ".join(found), pytrace=False)
