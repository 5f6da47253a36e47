"""Same API, beyond the documentation: every option on the wire, logging, and custom transports."""

from __future__ import annotations

import copy
import logging
import pickle
import queue
from typing import Any, Dict, Iterator, List, Optional, Tuple, Type

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadResult,
    CommandFailedError,
    CommandInterface,
    ConnectionLostError,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeConnectionError,
    RuntimeEnvironmentDownloadableInterface,
    RunTimeoutError,
    RuntimeUseClient,
    RuntimeUseError,
    WebSocketTransport,
)

from ..support.builders import (
    CONFIRM,
    SOON,
    Serve,
    answer_all,
    client_of,
    echo,
    end,
    error,
    heartbeat,
    ran,
    recorder,
    text,
)
from ..support.servers import TEXT, Peer


def never(_: Any) -> ArtifactUploadResult:
    raise AssertionError


SCHEMA = '{"type":"json_schema","schema":{}}'
COMMON: Dict[str, Any] = {
    "secrets_to_redact": ["s1", "s2"],
    "source_id": "me",
    "artifacts_dirs": ["/a", "/b"],
    "artifacts_dir": "/c",
    "artifacts_ignore_content": "*.log\n",
}
FILE = RuntimeEnvironmentDownloadableInterface("http://d/x", "/w")
FILE_JSON = {"download_url": "http://d/x", "working_dir": "/w"}


def answer_with_json(peer: Peer) -> None:
    peer.accept()
    peer.expect("invocation_message")
    peer.send({"message_type": "result_message", "data": {"type": "structured_output", "structured_output": {}}})
    end(peer)


def test_every_option_of_a_query(serve: Serve) -> None:
    server = serve(answer_with_json)
    client_of(server).query(
        "prompt",
        QueryOptions(
            system_prompt="system",
            model="model",
            output_format_json_schema_str=SCHEMA,
            agent_env={"A": "1"},
            pre_agent_invocation_commands=[CommandInterface("pre", cwd="/cwd", env={"B": "2"})],
            post_agent_invocation_commands=[CommandInterface("post")],
            pre_agent_downloadables=[FILE],
            on_artifact_upload_request=never,
            **COMMON,
        ),
    )
    assert server.said("invocation_message") == [
        {
            "message_type": "invocation_message",
            "user_prompt": "prompt",
            "system_prompt": "system",
            "model": "model",
            "output_format_json_schema_str": SCHEMA,
            "agent_env": {"A": "1"},
            "pre_agent_invocation_commands": [{"command": "pre", "cwd": "/cwd", "env": {"B": "2"}}],
            "post_agent_invocation_commands": [{"command": "post"}],
            "pre_agent_downloadables": [FILE_JSON],
            **COMMON,
        }
    ]


def test_every_option_of_commands(serve: Serve) -> None:
    server = serve(echo)
    client_of(server).execute_commands(
        [CommandInterface("ls", cwd="/cwd", env={"B": "ä€😀"}), "pwd"],
        ExecuteCommandsOptions(pre_execution_downloadables=[FILE], on_artifact_upload_request=never, **COMMON),
    )
    assert server.said("command_execution_message") == [
        {
            "message_type": "command_execution_message",
            "commands": [{"command": "ls", "cwd": "/cwd", "env": {"B": "ä€😀"}}, {"command": "pwd"}],
            "pre_execution_downloadables": [FILE_JSON],
            **COMMON,
        }
    ]


def test_what_is_not_set_is_not_sent(serve: Serve) -> None:
    server = serve(echo)
    client_of(server).query("p")
    client_of(server).execute_commands(["c"])
    bare = {"message_type": "invocation_message", "user_prompt": "p", "system_prompt": "", "model": "m"}
    assert server.messages == [
        {**bare, "secrets_to_redact": []},
        {"message_type": "command_execution_message", "commands": [{"command": "c"}], "secrets_to_redact": []},
    ]


def test_heartbeats(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(heartbeat(15002), heartbeat(30004), text("done"))

    seen, see = recorder()
    client_of(serve(script)).query("hi", on_heartbeat=see)
    assert [(message.phase, message.elapsed_ms) for message in seen] == [
        ("request_in_flight", 15002),
        ("request_in_flight", 30004),
    ]


@pytest.mark.parametrize("in_session", [False, True])
def test_a_call_logs_to_its_own_logger(serve: Serve, caplog: pytest.LogCaptureFixture, in_session: bool) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.frame(TEXT, b'{"message_type":"assistant_message","text_blocks":"wrong"}')
        peer.send(text("done"))
        if in_session:
            end(peer)

    client = client_of(serve(script))
    with caplog.at_level(logging.DEBUG):
        if in_session:
            with client.session() as session:
                session.query("hi", logger=logging.getLogger("mine"))
        else:
            client.query("hi", logger=logging.getLogger("mine"))
    warned = [record.name for record in caplog.records if record.levelno >= logging.WARNING]
    assert warned == ["mine"]


def test_errors_of_real_calls_pickle_and_copy(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        kind = peer.expect("command_execution_message")["commands"][0]["command"]
        if kind == "fails":
            peer.send(ran("fails", exit_code=3, stdout="out"))
        elif kind == "error":
            peer.send(error("broken", stack="s"))
        elif kind == "cut":
            peer.cut()

    client = client_of(serve(script))
    endings: List[Tuple[str, Type[RuntimeUseError], Dict[str, Any]]] = [
        ("fails", CommandFailedError, {}),
        ("error", AgentRuntimeError, {}),
        ("cut", ConnectionLostError, {}),
        ("silent", RunTimeoutError, {"timeout": SOON}),
        ("idle", AgentRuntimeError, {"idle_timeout": SOON}),
    ]
    for kind, wanted, more in endings:
        with pytest.raises(wanted) as caught:
            client.execute_commands([kind], **more)
        assert type(caught.value) is wanted
        for again in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value), copy.deepcopy(caught.value)):
            assert (type(again), str(again), again.__dict__) == (
                type(caught.value),
                str(caught.value),
                caught.value.__dict__,
            )


class EchoTransport:
    """A connection in memory: its own queue of answers."""

    def __init__(self) -> None:
        self._answers: queue.Queue[Optional[Dict[str, Any]]] = queue.Queue()
        self.sent: List[str] = []
        self.closed = 0

    def send(self, message: Dict[str, Any]) -> None:
        self.sent.append(message["message_type"])
        if message["message_type"] == "invocation_message":
            if message["user_prompt"] == "break":
                raise OSError("the line is down")
            if message["user_prompt"] != "silence":
                self._answers.put(text(message["user_prompt"]))
        elif message["message_type"] == "cancel_message":
            self._answers.put(text("late"))
        elif message["message_type"] == "end_session_message":
            self._answers.put(CONFIRM)

    def receive(self) -> Optional[Dict[str, Any]]:
        return self._answers.get(timeout=15)

    def close(self) -> None:
        self.closed += 1
        self._answers.put(None)


class EchoConnector:
    def __init__(self) -> None:
        self.connected: List[EchoTransport] = []

    def connect(self) -> EchoTransport:
        self.connected.append(EchoTransport())
        return self.connected[-1]


def test_a_custom_persistent_transport() -> None:
    transport = EchoConnector()
    client = RuntimeUseClient(transport=transport, model="m")
    assert client.query("one-shot").text == "one-shot"
    with client.session() as session:
        assert session.query("one").text == "one"
        with pytest.raises(TimeoutError):
            session.query("silence", timeout=SOON)
        assert session.query("two", timeout=10).text == "two"
        with pytest.raises(ConnectionLostError, match="the line is down"):
            session.query("break")
    assert all(each.closed for each in transport.connected)
    assert transport.connected[1].sent == ["invocation_message"] * 2 + ["cancel_message"] + ["invocation_message"] * 2


def test_a_custom_transport_for_one_shots() -> None:
    ended: List[bool] = []

    def transport(send_queue: queue.Queue[Optional[Dict[str, Any]]]) -> Iterator[Dict[str, Any]]:
        message = send_queue.get(timeout=15)
        while message is not None:
            if message["message_type"] == "invocation_message" and message["user_prompt"] != "silence":
                yield text(message["user_prompt"])
            message = send_queue.get(timeout=15)
        ended.append(True)

    client = RuntimeUseClient(transport=transport, model="m")
    assert client.query("hi").text == "hi"
    with pytest.raises(TimeoutError):
        client.query("silence", timeout=0.2)


def test_a_transport_that_cannot_connect() -> None:
    class Broken:
        def connect(self) -> Any:
            raise OSError("no cable")

    client = RuntimeUseClient(transport=Broken(), model="m")
    for call in (lambda: client.query("hi"), lambda: client.session().open(), lambda: client.wait_until_ready(5)):
        with pytest.raises(RuntimeConnectionError, match="no cable"):
            call()


def test_the_websocket_transport_may_be_wrapped(serve: Serve) -> None:
    class Counting:
        def __init__(self, inner: WebSocketTransport) -> None:
            self._inner = inner
            self.count = 0

        def connect(self) -> Any:
            self.count += 1
            return self._inner.connect()

    transport = Counting(WebSocketTransport(serve(echo).url))
    client = RuntimeUseClient(transport=transport, model="m")
    assert client.query("one").text == "one"
    with client.session() as session:
        assert session.query("two").text == "two"
    one_shot = RuntimeUseClient(transport=WebSocketTransport(serve(answering).url).__call__, model="m")
    assert one_shot.query("three").text == "three"
    assert transport.count == 2


def answering(peer: Peer) -> None:
    peer.accept()
    answer_all(peer)


def test_streams(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.receive()
        peer.send({"message_type": "assistant_message", "text_blocks": ["a"]}, heartbeat(), error("broken"))

    run = client_of(serve(script)).stream("hi")
    with run:
        assert [type(next(run)).__name__, type(next(run)).__name__] == [
            "AssistantMessageInterface",
            "HeartbeatMessageInterface",
        ]
        for _ in range(2):
            with pytest.raises(AgentRuntimeError, match="broken"):
                next(run)
        with pytest.raises(AgentRuntimeError, match="broken"):
            _ = run.result
    assert not isinstance(run, CommandFailedError)
