"""Runtimes for faults that come at any instant: scripts of `FaultServer` that a client may leave wherever it likes."""

from __future__ import annotations

from ..support.builders import CANCELLED, CONFIRM, answer, assistant, upload
from ..support.servers import Peer, PeerGone


def hangs_on_demand(peer: Peer) -> None:
    """Answers; but a prompt that begins with "hang" only by a message, and when it is cancelled."""
    try:
        peer.accept()
        for message in peer.requests():
            if message.get("user_prompt", "").startswith("hang"):
                peer.send(assistant(message["user_prompt"]))
            elif message["message_type"] == "cancel_message":
                peer.send(CANCELLED)
            else:
                answer(peer, message)
    except PeerGone:
        return


def streams(peer: Peer) -> None:
    """Answers, and sends the prompt three times before."""
    try:
        peer.accept()
        for message in peer.requests():
            if message["message_type"] == "invocation_message":
                peer.send(*[assistant(message["user_prompt"])] * 3)
            answer(peer, message)
    except PeerGone:
        return


def streams_and_uploads(peer: Peer) -> None:
    """As `streams`; and announces a file at the end of each session that asked for artifacts. It may rest for long."""
    watched = False
    try:
        peer.accept()
        for message in peer.requests():
            watched = watched or "artifacts_dir" in message
            if message["message_type"] == "invocation_message":
                peer.send(*[assistant(message["user_prompt"])] * 3)
            elif message["message_type"] == "end_session_message" and watched:
                peer.send(upload("/out/late"))
                continue
            elif message["message_type"] == "artifact_upload_response_message":
                peer.send(CONFIRM)
                continue
            answer(peer, message)
    except PeerGone:
        return
