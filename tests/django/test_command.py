"""`manage.py runtimeuse`: the subcommands, with the settings of an alias."""

from __future__ import annotations

import io
import sys
from typing import Any, Callable, List, NamedTuple

import pytest
from django.core.management import CommandError, ManagementUtility, call_command
from django.test import override_settings

from runtimeuse_sync.client import URL_VARIABLE
from runtimeuse_sync.runtime import LocalRuntime
from runtimeuse_sync.testing import FakeRuntime, assistant_message, text_result


class Outcome(NamedTuple):
    """How the command has ended, and what it has written."""

    code: int
    out: str
    err: str


Manage = Callable[..., Outcome]


@pytest.fixture
def manage(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Manage:
    """Return a function that runs `manage.py runtimeuse`."""
    for name in (URL_VARIABLE, "RUNTIMEUSE_MODEL", "RUNTIMEUSE_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
        capfd.readouterr()
        code = 0
        try:
            ManagementUtility(["manage.py", "runtimeuse", *words]).execute()
        except SystemExit as error:
            code = int(str(error.code))
        return Outcome(code, *capfd.readouterr())

    return run


def aliases(**settings: Any) -> Any:
    return override_settings(RUNTIMEUSE={"default": {}, "other": settings})


def test_query_has_the_alias_settings(manage: Manage) -> None:
    fake = FakeRuntime()
    fake.expect_query(
        "2+2", [assistant_message("Hm."), *text_result("4")], model="of the alias", system_prompt="Be short."
    )
    fake.expect_query("2+2", "5", model="another", system_prompt="Be long.")
    with fake.serve() as url, aliases(WS_URL=url, MODEL="of the alias", SYSTEM_PROMPT="Be short."):
        assert manage("--alias", "other", "query", "-q", "2+2") == (0, "4\n", "")
        words = ["query", "-q", "-m", "another", "-s", "Be long.", "2+2"]
        fake.expect_query("3+3", "6", model="of the alias")
        assert manage("--alias=other", "--settings", "tests.support.django_project.settings", *words) == (0, "5\n", "")
        assert manage("query", "--alias", "other", "-q", "3+3") == (0, "6\n", "")
        fake.expect_query("4+4", "8", model="of the alias")
        assert manage("query", "--alias=other", "-q", "4+4") == (0, "8\n", "")
    fake.verify()


def test_exec_passes_the_exit_code_on(manage: Manage) -> None:
    with LocalRuntime(token="t0ken") as runtime:
        headers = {"Authorization": lambda: "Bearer t0ken"}
        with aliases(WS_URL=runtime.ws_url, HEADERS=headers):
            done = manage("--alias", "other", "exec", "-q", "--header", "X-More: 1", "echo hello; exit 7")
            assert done == (7, "hello\n", "")
            with pytest.raises(CommandError, match="exit code 7") as caught:
                call_command("runtimeuse", "--alias", "other", "exec", "-q", "exit 7")
            assert caught.value.returncode == 7
            call_command("runtimeuse", "--alias", "other", "exec", "-q", "true")
            # The alias' header goes nowhere else.
            assert manage("--alias", "other", "exec", "--url", runtime.ws_url, "true").code == 1


def test_doctor_examines_the_alias_runtime(manage: Manage) -> None:
    with LocalRuntime() as runtime, override_settings(RUNTIMEUSE={"default": {"WS_URL": runtime.ws_url}}):
        done = manage("doctor")
    assert done.code == 0, done
    assert "handshake" in done.out


def test_doctor_is_for_websockets(manage: Manage) -> None:
    with aliases(TRANSPORT=FakeRuntime()):
        done = manage("--alias", "other", "doctor")
    assert done.code == 2
    assert "a transport of its own" in done.err


def test_serve_is_where_the_alias_looks_for_it(manage: Manage, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    import runtimeuse_sync.runtime.__main__ as served

    seen: List[Any] = []

    def main(words: Any, *, prog: str) -> int:
        seen.append((words, os.environ.pop("RUNTIMEUSE_TOKEN", None)))
        return 0

    monkeypatch.setattr(served, "main", main)
    with aliases(WS_URL="ws://localhost:9000/?token=t0ken"):
        assert manage("--alias", "other", "serve", "--agent", "echo").code == 0
    with aliases(WS_URL="ws://[::1]:9000", HEADERS={"authorization": lambda: "Bearer b"}):
        assert manage("--alias", "other", "serve").code == 0
    with aliases(WS_URL="wss://sandbox.example", HEADERS={"Authorization": "Bearer b"}):
        assert manage("--alias", "other", "serve", "--port", "1").code == 0
    assert seen == [
        (["--host", "localhost", "--port", "9000", "--agent", "echo"], "t0ken"),
        (["--host", "::1", "--port", "9000"], "b"),
        (["--port", "1"], None),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "it needs a subcommand: doctor, query"),
        (["--alias", "oher", "query", "x"], "RUNTIMEUSE has no alias 'oher'; did you mean 'other'?"),
        (["nosuch"], "no such command 'nosuch'"),
        (["query", "--alias"], "--alias"),
        (["query", "x"], "RUNTIMEUSE['default'] has no 'WS_URL', and the environment no RUNTIMEUSE_WS_URL"),
        (["exec", "--nosuch", "x"], "no such option"),
        (["--alias", "other", "exec", "true"], "RUNTIMEUSE['other']: "),
        (["query", "--local", "--url", "ws://x", "x"], "--local and --url exclude each other"),
    ],
)
def test_wrong_usage(manage: Manage, words: List[str], said: str) -> None:
    with aliases(WS_URL="ftp://s3cret@host"):
        done = manage(*words)
    assert done.code in (1, 2)
    assert said in done.err
    assert "Traceback" not in done.err
    assert "s3cret" not in done.err


def test_help_is_help(manage: Manage) -> None:
    done = manage("--help")
    assert done.code == 0
    assert "--alias" in done.out
    done = manage("query", "--help")
    assert done.code == 0
    assert "manage.py runtimeuse query" in done.out


def test_a_missing_extra_is_named(manage: Manage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    done = manage("query", "x")
    assert done.code == 1
    assert "runtimeuse-sync[cli]" in done.err
