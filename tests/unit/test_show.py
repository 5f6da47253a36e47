"""`show=True`: the messages of a call are shown while it runs, whatever its callbacks and its end."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from typing import Any, Callable, Dict, List

import pytest

from runtimeuse_sync import CommandFailedError, RuntimeUseClient
from runtimeuse_sync._display import live
from runtimeuse_sync.testing import (
    FakeRuntime,
    assistant_message,
    command_output,
    command_results,
    error,
    text_result,
)

from ..support.builders import BOTH, Serve, caller_of, output, ran, text, wait
from ..support.fixtures import serve
from ..support.processes import CHILD_LIMIT
from ..support.servers import Peer

__all__ = ["serve"]

TALK = [assistant_message("hi", "you"), command_output("out", "c"), *text_result("done")]


def client_with(*replies: Any) -> RuntimeUseClient:
    return RuntimeUseClient(transport=FakeRuntime(replies), model="m")


@BOTH
def test_queries(capsys: pytest.CaptureFixture[str], in_session: bool) -> None:
    with caller_of(client_with(TALK), in_session) as caller:
        assert caller.query("p", show=True).text == "done"
    assert capsys.readouterr() == ("hi\nyou\nout\n", "")


@BOTH
def test_commands(capsys: pytest.CaptureFixture[str], in_session: bool) -> None:
    def reply(request: Dict[str, Any]) -> List[Dict[str, Any]]:
        command = request["commands"][0]["command"]
        return [command_output("a\n", command), command_output("b", command, "stderr"), *command_results(0)(request)]

    with caller_of(client_with(reply, reply), in_session) as caller:
        assert caller.execute_commands("make test", show=True).results[0].exit_code == 0
        assert caller.run("ls", show=True).stderr == "b"
    assert capsys.readouterr() == ("a\nb\n" * 2, "")


def test_nothing_is_shown_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    client = client_with(TALK, TALK)
    client.query("p")
    client.query("p", show=False)
    assert capsys.readouterr() == ("", "")


def test_the_callbacks_run_as_well_and_first(capsys: pytest.CaptureFixture[str]) -> None:
    seen: List[str] = []

    def note(message: Any) -> None:
        seen.append(message.text)
        print(f"callback {len(seen)}")

    client_with(TALK).query("p", show=True, on_assistant_message=note, on_command_output=note)
    assert seen == ["hi\nyou", "out"]
    assert capsys.readouterr().out == "callback 1\nhi\nyou\ncallback 2\nout\n"


def test_a_failing_callback_ends_the_call(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: Any) -> None:
        raise KeyError("of the callback")

    with pytest.raises(KeyError, match="of the callback"):
        client_with(TALK).query("p", show=True, on_command_output=fail)
    assert capsys.readouterr().out == "hi\nyou\n"


def test_what_came_before_a_failure_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def reply(request: Dict[str, Any]) -> List[Dict[str, Any]]:
        return [command_output("no rule", "make", "stderr"), *command_results(2)(request)]

    with pytest.raises(CommandFailedError) as caught:
        client_with(reply).execute_commands("make", show=True)
    assert caught.value.results[0].stderr == "no rule"
    assert capsys.readouterr().out == "no rule\n"


def test_secrets_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    said = [command_output("a hun", "c"), command_output("ter2\n", "c"), *text_result("done")]
    client_with(said).query("p", show=True, secrets_to_redact=["hunter2"])
    assert capsys.readouterr().out == "a [REDACTED]\n"


@pytest.mark.parametrize("show", [1, "yes", None, io.StringIO()])
@pytest.mark.parametrize(
    "call",
    [
        lambda client, show: client.query("p", show=show),
        lambda client, show: client.execute_commands("ls", show=show),
        lambda client, show: client.run("ls", show=show),
        lambda client, show: client.run("cat", input="x" * 1_000_000, show=show),
    ],
)
def test_show_is_a_bool(client: RuntimeUseClient, call: Callable[[Any, Any], Any], show: Any) -> None:
    with pytest.raises(TypeError, match=r"^show must be a bool, not "):
        call(client, show)


@pytest.mark.parametrize("method", ["stream", "submit", "stream_commands", "submit_commands"])
def test_what_streams_has_nothing_to_show(client: RuntimeUseClient, method: str) -> None:
    with pytest.raises(TypeError, match="unknown option 'show'"):
        getattr(client, method)("p", show=True)


def test_a_large_input_is_not_shown(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the command is, not how its input gets there."""

    def script(peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message["message_type"] == "command_execution_message":
                command = message["commands"][0]["command"]
                if command.endswith("\ncat"):
                    peer.send(output("shown\n", command=command))
                peer.send(ran(command))

    with pytest.raises(Exception):  # noqa: B017, PT011  # the server writes no file
        RuntimeUseClient(serve(script).url).run("cat", input="x" * 1_000_000, show=True)
    assert capsys.readouterr().out == ""


def test_a_closed_stdout_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(ValueError, match="closed file"):
        client_with(TALK).query("p", show=True)


def test_the_error_of_the_call_comes_before_that_of_its_view(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)

    def close(_: Any) -> None:
        stream.close()
        raise KeyError("of the callback")

    said = [command_output("no line", "c"), assistant_message("x"), *error("it failed")]
    with pytest.raises(KeyError):
        client_with(said).query("p", show=True, on_assistant_message=close)


def test_a_quiet_run_in_a_notebook_is_refreshed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the calling thread itself: there is no other."""
    refreshed = threading.Event()
    pages: List[Dict[str, str]] = []

    def publish(page: Dict[str, str], update: bool) -> None:
        assert update is bool(pages)
        pages.append(page)
        if len(pages) == 3:
            refreshed.set()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        wait(refreshed)
        peer.send(text("done"))

    monkeypatch.setattr(live, "in_notebook", lambda: True)
    monkeypatch.setattr(live, "_publisher", lambda: publish)
    monkeypatch.setattr(live, "TICK", 0.01)
    RuntimeUseClient(serve(script).url, model="m").query("p", show=True)
    assert ["running" in page["text/plain"] for page in pages[:3]] == [True] * 3
    assert pages[-1]["text/plain"].startswith("query: done, ")


def test_it_imports_nothing_unless_asked() -> None:
    program = (
        "import sys; from runtimeuse_sync import RuntimeUseClient; from runtimeuse_sync.testing import *\n"
        "client = RuntimeUseClient(transport=FakeRuntime([text_result('1'), text_result('2')]), model='m')\n"
        "client.query('p')\n"
        "print([name for name in sys.modules if '_display' in name])\n"
        "client.query('p', show=True)\n"
        "print('IPython' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=CHILD_LIMIT, check=True
    )
    assert done.stdout == "[]\nFalse\n"
