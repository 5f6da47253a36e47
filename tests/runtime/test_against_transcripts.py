"""The recorded conversations with the real runtime, held with ours: the same messages, field by field.

Not those about artifacts, whose order is that of their times, nor the one that shows how the real one leaks a secret.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from runtimeuse_sync.runtime import Invocation, Sender

from ..support.storage import Storage
from ..support.threads import when
from .conftest import Connect
from .wire import assert_closed

FOLDER = Path(__file__).parent.parent / "transcripts"
OTHERS = ("artifacts-between-calls", "artifacts-existing", "artifacts-late", "redaction")
NAMES = sorted(path.stem for path in FOLDER.glob("*.jsonl") if path.stem not in OTHERS)


class Error(Exception):
    """What the recorded agent raised, by the same name."""


class Agent:
    """Does what the agent of the recordings did; a slow request takes until the test wants its end."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def run(self, invocation: Invocation, sender: Sender) -> Any:
        what, _, rest = invocation.user_prompt.partition(":")
        if what == "FAIL":
            raise Error(rest)
        if what == "JSON":
            return dict(json.loads(rest))
        if what == "STREAM":
            for number in range(int(rest)):
                sender.send_assistant_message([f"message {number} of {rest}"])
            return "ok"
        if what == "SLOW":
            # It returns a result even when it was cancelled.
            when(lambda: self.go_on.is_set() or invocation.cancelled.is_set())
            return f"slow done {invocation.user_prompt}"
        if what in ("ERR2", "ERR3"):
            sender.send_error_message("first")
            if what == "ERR3":
                raise Error("second")
            return "late result"
        return invocation.user_prompt


def is_said_meanwhile(message: Dict[str, Any]) -> bool:
    """Tells whether the runtime says this while a request goes on."""
    return message["message_type"] == "heartbeat_message" or "in flight" in message.get("error", "")


def comparable(messages: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Returns messages without what differs from run to run: stacks, times, how output was cut into pieces."""
    seen: List[Dict[str, Any]] = []
    for message in json.loads(json.dumps(messages)):
        if "stack" in (message.get("metadata") or {}):
            assert isinstance(message["metadata"]["stack"], str)
            message["metadata"]["stack"] = "…"
        if message["message_type"] == "heartbeat_message":
            assert isinstance(message["elapsed_ms"], int)
            message["elapsed_ms"] = 0
        last = seen[-1] if seen else {}
        if message == last and message["message_type"] == "heartbeat_message":
            continue
        if message["message_type"] == "command_output_message" and all(
            message[name] == last.get(name) for name in ("message_type", "stream", "command")
        ):
            last["text"] += message["text"]
            continue
        seen.append(message)
    return seen


def extent(messages: List[Dict[str, Any]]) -> Tuple[int, int]:
    """Returns how many messages these come to, and how much output the last one has."""
    seen = comparable(messages)
    return len(seen), len(seen[-1].get("text", "")) if seen else 0


@pytest.mark.parametrize("name", NAMES)
def test_ours_says_the_same(talk: Connect, storage: Storage, tmp_path: Path, name: str) -> None:
    text = (FOLDER / f"{name}.jsonl").read_text()
    text = text.replace("/sandbox", str(tmp_path)).replace("http://storage.example", storage.url)
    # However long the cancel takes, nothing more is said before it.
    text = text.replace("sleep 1; done", "[ $i = 2 ] && sleep 60; done")
    lines = [json.loads(line) for line in text.splitlines()[1:]]
    agent = Agent()
    wire = talk(agent, heartbeat_interval=0.05 if name == "heartbeat" else 600.0)
    recorded: List[Dict[str, Any]] = []
    heard: List[Dict[str, Any]] = []
    for line in lines:
        if line["from"] == "client":
            wire.connection.send(json.dumps(line["message"]))
        elif "message" in line:
            recorded.append(line["message"])
            if not is_said_meanwhile(line["message"]):
                agent.go_on.set()
            while extent(heard) < extent(recorded):
                heard.append(wire.receive())
        else:
            assert_closed(wire.connection)
    assert comparable(heard) == comparable(recorded)
