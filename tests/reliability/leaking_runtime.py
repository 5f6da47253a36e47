"""A runtime that leaks: its answers repeat every secret that it was sent, wherever there is a place for one.

Real runtimes redact what they send; the client must not depend on that.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import struct
from typing import Callable, List

from ..support.builders import BUSY, CANCELLED, CONFIRM, assistant, error, heartbeat, output, ran, text, upload
from ..support.marked_secrets import PASSWORD, SENT, USER
from ..support.servers import CLOSE, TEXT, Message, Peer, PeerGone
from .violations import BREACHES

Plan = Callable[[Peer], None]

_REQUESTS = ("invocation_message", "command_execution_message")


def told(peer: Peer) -> List[str]:
    """Returns the secrets that a connection has brought so far; those of the URL in whichever form."""
    heard = peer.path + json.dumps(peer.headers) + json.dumps(peer.messages)
    return [*(secret for secret in SENT if secret in heard), USER, PASSWORD]


def _refusal(number: int, peer: Peer) -> None:
    peer.read_request()
    known = " ".join(told(peer))
    answers = [
        f"HTTP/1.1 403 {known}\r\nWWW-Authenticate: Bearer {known}\r\nSet-Cookie: {known}\r\n\r\n",
        f"HTTP/1.1 302 {known}\r\nLocation: ws://127.0.0.1:1/?{known.replace(' ', '&')}\r\n\r\n",
        f"HTTP/1.1 101 {known}\r\n{known}\r\n\r\n",
        f"{known}\r\n\r\n",
    ]
    if number < len(answers):
        peer.raw(answers[number].encode())
        return
    peer.upgrade(["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"][number % 2] + f": {known}")


def _noise(known: str, source: random.Random) -> List[Message]:
    messages: List[Message] = [
        assistant("fine"),
        assistant("fine"),
        output("fine"),
        heartbeat(),
        {"message_type": known, "text": known},
        {"message_type": "assistant_message", "text_blocks": known},
        {"message_type": "assistant_message", "text_blocks": [{known: known}]},
        {"message_type": "command_output_message", "stream": known, "text": known, "command": known},
        {"message_type": "heartbeat_message", "phase": [known], known: known},
        {"message_type": "artifact_upload_request_message", "filename": [known], "filepath": known},
        {known: known},
    ]
    return source.choices(messages, k=source.randrange(6))


def _end(peer: Peer, ending: str, source: random.Random) -> None:
    """Ends a request, or the connection, in one of the ways."""
    known = " ".join(told(peer))
    failed = error(f"it failed: {known}", stack=known, **{known: [{known: known}]}, cause={"error_name": known})
    malformed: List[Message] = [
        {"message_type": "result_message", "data": known},
        {"message_type": "result_message", "data": {"type": known, "text": known}},
        {"message_type": "result_message", "data": {"type": "text", "text": [known]}, "metadata": known},
        {"message_type": "command_execution_result_message", "results": [known]},
        {"message_type": "command_execution_result_message", "results": [{"command": known, "exit_code": known}]},
        {"message_type": "error_message", "error": [known], "metadata": known},
    ]
    if ending == "result":
        asked = [message for message in peer.messages if message["message_type"] in _REQUESTS][-1]
        peer.send(text("done") if asked["message_type"] == "invocation_message" else ran("make"))
    elif ending == "failing command":
        peer.send(ran(known, exit_code=3, stdout=known))
    elif ending == "error":
        peer.send(*[failed] * source.randrange(1, 3))
    elif ending == "busy":
        peer.send(error(f"{BUSY} {known}"))
    elif ending == "malformed":
        peer.send(source.choice(malformed))
    elif ending == "cut":
        peer.cut(reset=source.random() < 0.5)
    elif ending == "close":
        # A close frame's reason has 123 bytes at most.
        code = struct.pack("!H", source.choice([1000, 1008, 1011]))
        peer.frame(CLOSE, code + source.choice(told(peer)).encode())
    elif ending == "breach":
        made = source.choice(list(BREACHES.values()))(source).data
        peer.raw(source.choice([made, known.encode(), b"HTTP/1.1 500 " + known.encode() + b"\r\n\r\n"]))
    else:
        assert ending == "silence"


_ENDINGS = ["result", "failing command", "error", "busy", "malformed", "cut", "close", "breach", "silence"]


def plan(source: random.Random) -> Plan:
    """Returns what the runtime does on one connection, made up at random."""
    # Of its own, for it is drawn from in another thread.
    source = random.Random(source.random())
    if source.random() < 0.15:
        return functools.partial(_refusal, source.randrange(6))

    def talk(peer: Peer) -> None:
        peer.accept()
        with contextlib.suppress(PeerGone):  # It is not interested in the rest.
            for message in peer.requests():
                _react(peer, message, source)
                if peer.sock.fileno() < 0:
                    return

    return talk


def _react(peer: Peer, message: Message, source: random.Random) -> None:
    kind = message["message_type"]
    secret = source.choice(told(peer))
    if kind in _REQUESTS and message.get("commands") != []:
        known = " ".join(told(peer))
        peer.send(*_noise(known, source))
        if source.random() < 0.3:
            peer.frame(TEXT, source.choice([known.encode(), json.dumps([known]).encode(), b'{"message_type":']))
        if source.random() < 0.3:
            peer.send(upload(f"/out/{secret}.txt"))
        _end(peer, source.choice(_ENDINGS), source)
    elif kind == "command_execution_message":
        peer.send(ran())
    elif kind == "cancel_message":
        peer.send(CANCELLED)
    elif kind == "end_session_message":
        late = source.randrange(3)
        peer.send(*[upload(f"/out/{secret}")] * late, CONFIRM)
        if source.random() < 0.3:
            _end(peer, "close", source)
