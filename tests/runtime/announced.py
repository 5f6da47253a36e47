"""What the runtime announces, for tests of artifacts."""

from __future__ import annotations

from typing import List

from .wire import Message, Wire

REQUEST = "artifact_upload_request_message"
CONFIRM = "end_session_confirm_message"


def files(messages: List[Message]) -> List[str]:
    """Returns the names of the announced files, sorted."""
    return sorted(message["filename"] for message in messages if message["message_type"] == REQUEST)


def announced(wire: Wire, before: List[Message]) -> Message:
    """Returns the first announcement of a file: one that was `before` the terminal, or the next message.

    Which it is depends on whether a command ends before its files have settled, which no machine promises.
    """
    return next((message for message in before if message["message_type"] == REQUEST), None) or wire.expect(REQUEST)


def end_and_answer(wire: Wire, url: str, before: List[Message]) -> List[Message]:
    """Ends the session and answers all that is announced; returns all that was received.

    Args:
        wire: The connection.
        url: Where the files go.
        before: What was received before: a command may take longer than its files to settle.
    """
    wire.send("end_session_message")
    received = before[:]
    at = 0
    while not received or received[-1]["message_type"] != CONFIRM:
        if at == len(received):
            received.append(wire.receive())
        if received[at]["message_type"] == REQUEST:
            wire.answer(received[at], f"{url}/{received[at]['filename']}?sig=x")
        at += 1
    return received


def end_in_vain(wire: Wire, url: str, before: List[Message]) -> str:
    """Ends the session and answers the one file that is announced; returns what the runtime says as it gives it up."""
    wire.send("end_session_message")
    request = announced(wire, before)
    wire.answer(request, f"{url}/{request['filename']}?sig=x")
    received, reason = wire.until_given_up()
    assert received == []
    return reason
