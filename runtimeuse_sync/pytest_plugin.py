"""The pytest plugin: fixtures with an embedded runtime, a client, and a fake runtime with a script.

pytest loads this module in every run of an environment that this package is installed in (entry point `runtimeuse`;
`-p no:runtimeuse` keeps it out). So it imports nothing but pytest, which is there already: the client, the runtime and
the fake runtime are imported by the fixtures that need them.

Fixtures, all of them new for each test:

- `runtimeuse_runtime`: a running `LocalRuntime` (extra `[runtime]`), set up by `@pytest.mark.runtimeuse(agent=…)`.
- `runtimeuse_fake`: a `FakeRuntime`, which fails the test if requests differ from its script.
- `runtimeuse_client`: a `RuntimeUseClient` of whichever of the two the test uses.

Both runtimes are in `RUNTIMEUSE_WS_URL` during the test. In a Django project, all aliases of `get_client` lead to them.

It has no asserts for pytest to rewrite, and may have been imported before (PYTEST_DONT_REWRITE).

Threads: fixtures and hooks run in the thread that runs the test. The runtimes have threads of their own, which have
ended when the test's fixtures are torn down.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .client import RuntimeUseClient
    from .runtime import LocalRuntime
    from .testing import FakeRuntime

MARKER = "runtimeuse"

#: The model of `runtimeuse_client`: a fake runtime, and agents that are plain functions, take any.
MODEL = "test-model"

#: The packages of the extra `[runtime]`.
NEEDED = ("websockets", "pathspec", "requests", "jsonschema")


class _Used:
    """A fake runtime that a test uses.

    Attributes:
        fake: The fake runtime.
        told: Whether the test's report says already how requests differ from the script.
    """

    def __init__(self, fake: FakeRuntime) -> None:
        self.fake = fake
        self.told = False

    def check(self) -> None:
        """Fails the test if requests differ from the script, unless its report says so already."""
        problems = "" if self.told else self.fake.problems()
        if problems:
            self.told = True
            pytest.fail(problems, pytrace=False)


#: Older versions of pytest load the plugin, too, in every run: it must do no harm there.
_IS_SUPPORTED = hasattr(pytest, "StashKey")

if _IS_SUPPORTED:
    _used = pytest.StashKey[_Used]()


def _used_by(item: pytest.Item) -> Optional[_Used]:
    return item.stash.get(_used, None) if _IS_SUPPORTED else None


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(agent=…, **settings): the agent and the settings of the test's `runtimeuse_runtime`, which are the "
        "arguments of `runtimeuse_sync.runtime.LocalRuntime`",
    )


@pytest.hookimpl(trylast=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Checks the script, once the test itself has passed; so it is the test that fails, not its teardown."""
    used = _used_by(item)
    if used is not None:
        used.check()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Adds to the report of a test that has failed how its requests differ from the script."""
    used = _used_by(item)
    if used is None or used.told or call.excinfo is None:
        return
    used.told = True
    problems = used.fake.problems()
    # A test that is skipped half-way has not failed, although it has not made all of its requests.
    if problems and not call.excinfo.errisinstance(pytest.skip.Exception):
        item.add_report_section(call.when, "runtimeuse_fake", problems)


@pytest.fixture
def runtimeuse_runtime(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalRuntime]:
    """A running embedded runtime, for this test alone; code that uses `RUNTIMEUSE_WS_URL` finds it.

    The marker `@pytest.mark.runtimeuse(agent=…)` sets its agent, and any other argument of `LocalRuntime`. By default
    the agent is `"shell"`, and the root, where commands and agents run, is the test's `tmp_path`.
    """
    runtime = _started(request, tmp_path)
    try:
        url = _url_with_token(request, runtime)
        monkeypatch.setenv("RUNTIMEUSE_WS_URL", url)
        with _in_django(url):
            yield runtime
    finally:
        runtime.stop()


@pytest.fixture
def runtimeuse_fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRuntime]:
    """A fake runtime, whose script the test writes; code that uses `RUNTIMEUSE_WS_URL` finds it.

    `expect_query`, `expect_commands` and `expect` add a request and its reply, `answer_all` takes a function. The test
    fails, with a diff, if other requests come than these, or not all of them. Where sockets are blocked, the variable
    is not set, and `runtimeuse_client` and `RuntimeUseClient(transport=runtimeuse_fake)` work all the same.
    """
    from .testing import FakeRuntime

    _check_alone(request)
    fake = FakeRuntime()
    used = request.node.stash[_used] = _Used(fake)
    with contextlib.ExitStack() as serving:
        try:
            url = serving.enter_context(fake.serve())
            monkeypatch.setenv("RUNTIMEUSE_WS_URL", url)
            serving.enter_context(_in_django(url))
        except (OSError, RuntimeError):
            # Sockets are blocked, by pytest-socket, say. Clients that are given the fake runtime itself need none.
            monkeypatch.delenv("RUNTIMEUSE_WS_URL", raising=False)
        yield fake
    fake.stop()
    del request.node.stash[_used]
    # What came after the test's body, from other fixtures' teardown, counts, too.
    used.check()


@pytest.fixture
def runtimeuse_client(request: pytest.FixtureRequest) -> Iterator[RuntimeUseClient]:
    """A client of the test's `runtimeuse_fake`, if it uses that, else of its `runtimeuse_runtime`.

    It has the model `"test-model"`. At the test's end, what it has in flight is cancelled.
    """
    from .client import RuntimeUseClient

    if "runtimeuse_fake" in request.fixturenames:
        client = RuntimeUseClient(transport=request.getfixturevalue("runtimeuse_fake"), model=MODEL)
    else:
        runtime = request.getfixturevalue("runtimeuse_runtime")
        client = RuntimeUseClient(_url_with_token(request, runtime), model=MODEL)
    with client:
        yield client


@contextlib.contextmanager
def _in_django(url: str) -> Iterator[None]:
    """Leads `runtimeuse_sync.django.get_client` to a runtime, if this is a Django project."""
    configured = getattr(sys.modules.get("django.conf"), "settings", None)
    if configured is None or not (configured.configured or os.environ.get("DJANGO_SETTINGS_MODULE")):
        yield
        return
    from .django._clients import lead_to

    with lead_to(url):
        yield


def _started(request: pytest.FixtureRequest, root: Path) -> LocalRuntime:
    """Returns the test's runtime, started. What is wrong with it fails the test without a traceback of this module."""
    _check_alone(request)
    for package in NEEDED:
        if importlib.util.find_spec(package) is None:
            pytest.fail(
                f"the fixture runtimeuse_runtime needs the package {package!r}, which is not installed: "
                'pip install "runtimeuse-sync[runtime]" (runtimeuse_fake needs no extra)',
                pytrace=False,
            )
    from .runtime import LocalRuntime

    given = _given(request)
    known = list(inspect.signature(LocalRuntime).parameters)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            pytest.fail(f"@pytest.mark.{MARKER}: LocalRuntime has no argument {name}; {hint}", pytrace=False)
    try:
        return LocalRuntime(**{"root": str(root), **given}).start()
    except (ImportError, TypeError, ValueError, OSError) as error:
        pytest.fail(f"@pytest.mark.{MARKER}: {error}", pytrace=False)


def _given(request: pytest.FixtureRequest) -> Dict[str, Any]:
    """Returns the arguments of the test's markers; the closest one, of the test itself, wins over that of its class."""
    given: Dict[str, Any] = {}
    for marker in request.node.iter_markers(MARKER):
        if marker.args:
            pytest.fail(
                f"@pytest.mark.{MARKER} takes keywords only, such as agent=…, and got {marker.args[0]!r}", pytrace=False
            )
        given = {**marker.kwargs, **given}
    return given


def _check_alone(request: pytest.FixtureRequest) -> None:
    if not _IS_SUPPORTED:
        pytest.fail(f"the fixtures of runtimeuse_sync need pytest 7 or newer; this is {pytest.__version__}")
    if {"runtimeuse_fake", "runtimeuse_runtime"} <= set(request.fixturenames):
        pytest.fail(
            "a test can use runtimeuse_fake or runtimeuse_runtime, not both: RUNTIMEUSE_WS_URL leads to one of them",
            pytrace=False,
        )


def _url_with_token(request: pytest.FixtureRequest, runtime: LocalRuntime) -> str:
    token = _given(request).get("token")
    if not token:
        return runtime.ws_url
    from urllib.parse import quote

    return f"{runtime.ws_url}/?token={quote(token, safe='')}"
