"""Real conversations with the runtime, replayed: the client makes the calls that each shows, and gets its outcome."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadResult,
    CancelledException,
    CommandFailedError,
    CommandInterface,
    CommandResultItem,
    RuntimeEnvironmentDownloadableInterface,
    RuntimeUseSession,
    StructuredOutputResult,
)

from ..support.builders import CONFIRM, Serve, client_of, recorder, wait
from ..support.servers import Message, Peer

FOLDER = Path(__file__).parent.parent / "transcripts"

Play = Callable[[RuntimeUseSession, "Replay"], None]
PLAYS: Dict[str, Play] = {}


def play(function: Play) -> Play:
    """The calls of the transcript of the function's name."""
    PLAYS[function.__name__.replace("_", "-")] = function
    return function


class Replay:
    """The runtime's part of a transcript; the client's part must come as it is written there.

    The client may say more than was recorded: the barrier, after an error. It is answered as the runtime was at that
    time: idle, unless the transcript's terminal message is still to come.
    """

    def __init__(self, name: str) -> None:
        first, *lines = (FOLDER / f"{name}.jsonl").read_text().splitlines()
        self.about = json.loads(first)["about"]
        self.lines: List[Dict[str, Any]] = [json.loads(line) for line in lines]
        self.heard: List[Message] = []
        self.owed: List[Message] = []
        self.cancel_is_due = threading.Event()

    def calls(self, message_type: str) -> List[Message]:
        messages = [line["message"] for line in self.lines if line["from"] == "client"]
        return [message for message in messages if message["message_type"] == message_type]

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        for number, line in enumerate(self.lines):
            if line["from"] == "runtime":
                if "message" in line:
                    while self.owed and line["message"] == CONFIRM:
                        self.take(peer.receive())
                    peer.send(line["message"])
                else:
                    peer.close(1000)
                continue
            wanted = line["message"]
            if wanted["message_type"] == "no_such_message":
                continue  # A client of ours cannot say it.
            if wanted["message_type"] == "cancel_message":
                self.cancel_is_due.set()
                if number == 0:
                    continue  # With nothing in flight ours says nothing.
            if wanted["message_type"] == "artifact_upload_response_message":
                # Ours keeps what is asked for between two calls for the next one: the answer comes, but later.
                self.owed.append(wanted)
                continue
            message = self.receive(peer)
            while message.get("commands") == [] and wanted.get("commands") != []:
                peer.send({"message_type": "command_execution_result_message", "results": []})
                message = self.receive(peer)
            assert message == wanted
            self.heard.append(message)

    def receive(self, peer: Peer) -> Message:
        """Returns the next message that is no answer to an upload request."""
        message = peer.receive()
        while message["message_type"] == "artifact_upload_response_message":
            self.take(message)
            message = peer.receive()
        return message

    def take(self, response: Message) -> None:
        assert response in self.owed
        self.owed.remove(response)


def query(session: RuntimeUseSession, replay: Replay, number: int = 0, **more: Any) -> Any:
    said = replay.calls("invocation_message")[number]
    return session.query(
        said["user_prompt"],
        system_prompt=said["system_prompt"],
        model=said["model"],
        secrets_to_redact=said["secrets_to_redact"],
        output_format_json_schema_str=said.get("output_format_json_schema_str"),
        pre_agent_invocation_commands=[CommandInterface(**c) for c in said.get("pre_agent_invocation_commands", [])],
        post_agent_invocation_commands=[CommandInterface(**c) for c in said.get("post_agent_invocation_commands", [])],
        pre_agent_downloadables=[
            RuntimeEnvironmentDownloadableInterface(**item) for item in said.get("pre_agent_downloadables", [])
        ],
        timeout=15,
        **more,
    )


def commands(session: RuntimeUseSession, replay: Replay, number: int = 0, **more: Any) -> Any:
    said = replay.calls("command_execution_message")[number]
    if "artifacts_dirs" in said:
        more = {"artifacts_dirs": said["artifacts_dirs"], "on_artifact_upload_request": to_storage, **more}
    return session.execute_commands([CommandInterface(**c) for c in said["commands"]], timeout=15, **more)


def to_storage(request: Any) -> ArtifactUploadResult:
    return ArtifactUploadResult(f"http://storage.example/{request.filename}", "text/plain")


def fails(session: RuntimeUseSession, replay: Replay, wanted: str, number: int = 0, **more: Any) -> AgentRuntimeError:
    with pytest.raises(AgentRuntimeError) as caught:
        query(session, replay, number, **more)
    assert caught.value.error == wanted
    return caught.value


@play
def agent_fails(session: RuntimeUseSession, replay: Replay) -> None:
    metadata = fails(session, replay, "it broke").metadata or {}
    assert metadata["error_name"] == "Error"


@play
def artifacts_between_calls(session: RuntimeUseSession, replay: Replay) -> None:
    commands(session, replay)
    commands(session, replay, 1)


@play
def artifacts_existing(session: RuntimeUseSession, replay: Replay) -> None:
    commands(session, replay)
    assert commands(session, replay, 1).results == [CommandResultItem("true", 0)]


@play
def artifacts_late(session: RuntimeUseSession, replay: Replay) -> None:
    commands(session, replay)


@play
def cancel_command(session: RuntimeUseSession, replay: Replay) -> None:
    seen, see = recorder()

    def abort_after_two(message: Any) -> None:
        see(message.text)
        if len(seen) == 2:
            session.abort()

    with pytest.raises(CancelledException):
        commands(session, replay, on_command_output=abort_after_two)
    assert seen == ["1\n", "2\n"]
    assert commands(session, replay, 1).results == [CommandResultItem("echo next", 0, "next\n")]


@play
def cancel_idle(session: RuntimeUseSession, replay: Replay) -> None:
    session.abort()
    assert query(session, replay).text == "hello"


@play
def cancel_ignored_by_agent(session: RuntimeUseSession, replay: Replay) -> None:
    run = session.stream("SLOW:2000", system_prompt="s", model="m")

    def use() -> None:
        with run:
            wait(replay.cancel_is_due)
            session.abort()
            _ = run.result

    with pytest.raises(CancelledException):
        use()
    assert query(session, replay, 1).text == "next"


@play
def command_killed(session: RuntimeUseSession, replay: Replay) -> None:
    with pytest.raises(CommandFailedError) as caught:
        commands(session, replay)
    assert (caught.value.command, caught.value.exit_code) == ("kill -9 $$", -1)


@play
def commands_(session: RuntimeUseSession, replay: Replay) -> None:
    seen, see = recorder()
    with pytest.raises(CommandFailedError) as caught:
        commands(session, replay, on_command_output=see)
    assert caught.value.results == [
        CommandResultItem("echo $G; pwd", 0, "ready\n/sandbox/new\n"),
        CommandResultItem("echo warn >&2", 0, stderr="warn\n"),
        CommandResultItem("printf x", 0, "x"),
        CommandResultItem("exit 3", 3),
    ]
    assert (caught.value.command, caught.value.exit_code) == ("exit 3", 3)
    assert [(m.stream, m.text) for m in seen] == [
        ("stdout", "ready\n/sandbox/new\n"),
        ("stderr", "warn\n"),
        ("stdout", "x"),
    ]


PLAYS["commands"] = PLAYS.pop("commands-")


@play
def download_404(session: RuntimeUseSession, replay: Replay) -> None:
    fails(session, replay, "Download failed: 404 Not Found")


@play
def heartbeat(session: RuntimeUseSession, replay: Replay) -> None:
    seen, see = recorder()
    assert query(session, replay, on_heartbeat=see).text == "slow done SLOW:16000"
    assert [(m.phase, m.elapsed_ms) for m in seen] == [("request_in_flight", 15002)]


@play
def post_command(session: RuntimeUseSession, replay: Replay) -> None:
    seen, see = recorder()
    assert query(session, replay, on_command_output=see).text == "x"
    assert [(m.text, m.command) for m in seen] == [("pre\n", "echo pre"), ("post\n", "echo post")]


@play
def pre_command_fails(session: RuntimeUseSession, replay: Replay) -> None:
    seen, see = recorder()
    fails(session, replay, "pre-agent command failed with exit code: 4", on_command_output=see)
    assert [m.text for m in seen] == ["pre\n"]


@play
def query_structured(session: RuntimeUseSession, replay: Replay) -> None:
    result = query(session, replay)
    assert result.data == StructuredOutputResult({"file_count": 3})
    assert (result.structured_output, result.metadata) == ({"file_count": 3}, {})


@play
def query_text(session: RuntimeUseSession, replay: Replay) -> None:
    seen, see = recorder()
    assert query(session, replay, on_assistant_message=see).text == "ok"
    assert [m.text_blocks for m in seen] == [[f"message {number} of 3"] for number in range(3)]


@play
def redaction(session: RuntimeUseSession, replay: Replay) -> None:
    seen, see = recorder()
    assert query(session, replay, on_command_output=see).text == "the [REDACTED]"
    assert [m.text for m in seen] == ["[REDACTED]\n", "SECRET", "VALUE\n"]


@play
def two_terminals_error_error(session: RuntimeUseSession, replay: Replay) -> None:
    fails(session, replay, "first")
    assert query(session, replay, 1).text == "next"


@play
def two_terminals_error_result(session: RuntimeUseSession, replay: Replay) -> None:
    fails(session, replay, "first")
    assert query(session, replay, 1).text == "next"


@play
def unknown_and_malformed(session: RuntimeUseSession, replay: Replay) -> None:
    assert query(session, replay).text == "still"


#: What only a client that breaks the rules can say; the client's side of it is in test_no_mixed_answers_late.py.
NOT_OURS = {"busy"}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.jsonl") if path.stem not in NOT_OURS))
def test_replay(serve: Serve, name: str) -> None:
    replay = Replay(name)
    with client_of(serve(replay)).session() as session:
        PLAYS[name](session, replay)
    assert replay.heard[-1]["message_type"] == "end_session_message"
    assert replay.owed == []
