"""Runtimes for faults that come at any instant: scripts of `FaultServer` that a client may leave wherever it likes."""

from __future__ import annotations

from ..promises.helpers import CANCELLED, answer, assistant
from ..servers import Peer, PeerGone


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
