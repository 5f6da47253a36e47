"""A failing call's traceback leads from the user's code to the called method, without the client's inner frames."""

from __future__ import annotations

import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Dict, List, Optional

import pytest

import runtimeuse_sync
from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync._call import shortened

from ..support.builders import CONFIRM, Serve, assistant, error, ran, text
from ..support.servers import PATIENCE, Peer

PACKAGE = Path(runtimeuse_sync.__file__).parent

#: The most frames of the package that a traceback shows.
MOST = 3


def frames_of(failed: BaseException) -> List[str]:
    """Returns the file of each frame of an exception as it is printed, causes included."""
    printed = traceback.TracebackException.from_exception(failed)
    files: List[str] = []
    link: Optional[traceback.TracebackException] = printed
    while link is not None:
        files += [frame.filename for frame in link.stack]
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return files


def ours(failed: BaseException) -> int:
    return sum(PACKAGE in Path(name).parents for name in frames_of(failed))


def script(peer: Peer) -> None:
    """Answers by what the prompt asks for."""
    peer.accept()
    for message in peer.requests():
        prompt = message.get("user_prompt")
        if message["message_type"] == "end_session_message":
            peer.send(CONFIRM)
        elif prompt == "fail":
            peer.send(error("it failed"))
        elif prompt == "speak":
            peer.send(assistant("hi"), text("done"))
        elif message["message_type"] == "command_execution_message" and message["commands"]:
            peer.send(ran("exit 3", exit_code=3))
        elif message["message_type"] == "command_execution_message":
            peer.send(ran())


def fail_in_callback(_: Any) -> None:
    raise KeyError("of the callback")


def read(run: Any) -> None:
    with run as entered:
        for _ in entered:
            pass


def read_result(run: Any) -> None:
    with run as entered:
        _ = entered.result


def in_session(client: RuntimeUseClient, call: Callable[[Any], Any]) -> None:
    with client.session() as session:
        call(session)


#: Set once the call has ended: a callback that is slow goes on until then.
OVER = threading.Event()

CALLS: Dict[str, Callable[[Any, Any], Any]] = {
    "a failing query": lambda client, dead: client.query("fail"),
    "a failing command": lambda client, dead: client.execute_commands(["exit 3"]),
    "a failing run": lambda client, dead: client.run("exit 3"),
    "a deadline": lambda client, dead: client.query("wait", timeout=0.05),
    "an idle runtime": lambda client, dead: client.query("wait", idle_timeout=0.05),
    "a callback": lambda client, dead: client.query("speak", on_assistant_message=fail_in_callback),
    "a callback that is slow": lambda client, dead: client.query(
        "speak", on_assistant_message=lambda _: OVER.wait(PATIENCE), assistant_callback_timeout=0.05
    ),
    "text for a schema": lambda client, dead: client.query("speak", output_format_json_schema_str="{}"),
    "nobody there": lambda client, dead: dead.query("p"),
    "nobody there for a session": lambda client, dead: dead.session().open(),
    "nobody there for a context": lambda client, dead: in_session(dead, print),
    "nobody there for a stream": lambda client, dead: read(dead.stream("p")),
    "not ready": lambda client, dead: dead.wait_until_ready(0.05),
    "on a session": lambda client, dead: in_session(client, lambda session: session.query("fail")),
    "a session that is not open": lambda client, dead: client.session().query("p"),
    "a stream": lambda client, dead: read(client.stream("fail")),
    "a stream's result": lambda client, dead: read_result(client.stream("fail")),
    "a stream's callback": lambda client, dead: read(client.stream("speak", on_assistant_message=fail_in_callback)),
    "an unknown option": lambda client, dead: client.query("p", timout=3),
    "an invalid option": lambda client, dead: client.query("p", timeout=-3),
    "an invalid option of a stream": lambda client, dead: client.stream_commands(["ls"], timeout=-3),
    "an invalid timeout of next": lambda client, dead: client.stream("p").next("1"),
    "an invalid timeout of a file operation": lambda client, dead: client.files.read("f", timeout=-1),
    "a submission to a session that is not open": lambda client, dead: client.session().submit("p"),
    "a large input": lambda client, dead: dead.run("cat", input="x" * 1_000_000),
    "an invalid command": lambda client, dead: client.run(3),
    "an unknown argument": lambda client, dead: type(client)("ws://a.test", timout=3),
    "an invalid URL": lambda client, dead: RuntimeUseClient("ftp://a.test"),
    "an invalid setting": lambda client, dead: RuntimeUseClient("ws://a.test", connect_timeout=-1),
    "an invalid default": lambda client, dead: RuntimeUseClient("ws://a.test", timeout=-1),
}


@pytest.mark.parametrize("name", CALLS)
def test_few_frames_are_ours(serve: Serve, name: str) -> None:
    client = RuntimeUseClient(serve(script).url, model="m")
    dead = RuntimeUseClient("ws://127.0.0.1:1", model="m", connect_timeout=0.05)
    OVER.clear()
    with pytest.raises(Exception) as caught:  # noqa: PT011  # each of them is another one
        CALLS[name](client, dead)
    OVER.set()
    files = frames_of(caught.value)
    assert __file__ in files
    assert 1 <= ours(caught.value) <= MOST, files
    if isinstance(caught.value, KeyError):
        # The callback that raised stays visible.
        assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fail_in_callback"


def test_ctrl_c_is_shortened_too(serve: Serve) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        RuntimeUseClient(serve(script).url, model="m").query("speak", on_assistant_message=interrupt)
    assert 1 <= ours(caught.value) <= MOST


def raised_in(module: str, failure: BaseException) -> BaseException:
    """Returns an exception that a function in a module of this name has raised."""
    code = compile("def fail(failure):\n    raise failure", "inner.py", "exec")
    names: Any = {"__name__": module}
    exec(code, names)
    try:
        names["fail"](failure)
    except BaseException as caught:
        return caught
    raise AssertionError("it raises")


def depth(trace: Optional[TracebackType]) -> int:
    return 0 if trace is None else 1 + depth(trace.tb_next)


def test_a_fault_of_the_package_keeps_its_traceback() -> None:
    for fault in (AssertionError("it never is"), KeyError("x"), AttributeError("x"), IndexError("x")):
        assert depth(shortened(raised_in("runtimeuse_sync.inner", fault)).__traceback__) == 2
    # What it raises on purpose, and what is raised elsewhere.
    assert depth(shortened(raised_in("runtimeuse_sync.inner", ValueError("x"))).__traceback__) == 1
    assert depth(shortened(raised_in("runtimeuse_sync.inner", KeyboardInterrupt())).__traceback__) == 1
    assert depth(shortened(raised_in("elsewhere", KeyError("x"))).__traceback__) == 2


def test_causes_and_circles() -> None:
    first, second = raised_in("runtimeuse_sync.a", ValueError("1")), raised_in("runtimeuse_sync.b", ValueError("2"))
    first.__cause__, second.__cause__ = second, first
    assert shortened(first) is first
    assert (depth(first.__traceback__), depth(second.__traceback__)) == (1, 1)
