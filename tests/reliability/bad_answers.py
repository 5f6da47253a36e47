"""What a server can do to a handshake instead of accepting it, as scripts for a `FaultServer`, by what becomes of it.

Each script repeats what the client has shown it, secrets and all, wherever it says anything: in the reason, in headers,
in a body.
"""

from __future__ import annotations

from typing import Callable, Dict, Iterable, NamedTuple, Optional

from ..support.servers import PATIENCE, Peer

#: What goes into every place where a client keeps a secret.
MARK = "mArKeR-0123456789"

Script = Callable[[Peer], None]


class Refusal(NamedTuple):
    """An answer that ends an attempt.

    Attributes:
        script: What the server does.
        status: The HTTP status that the error must show.
        shown: What the error's text must show, besides.
    """

    script: Script
    status: Optional[int] = None
    shown: str = ""


def said(status: str, *headers: str, body: str = "") -> Refusal:
    """A whole HTTP answer."""
    number, _, reason = status.partition(" ")

    def script(peer: Peer) -> None:
        peer.read_request()
        repeated = f"X-Seen: {peer.path} {peer.headers}"
        head = [f"HTTP/1.1 {status} (not with {MARK})", repeated, *headers, f"Content-Length: {len(body)}", "", body]
        peer.raw("\r\n".join(head).encode())

    return Refusal(script, int(number), f"HTTP {number} {reason}")


def chunked(status: str, *pieces: str) -> Refusal:
    """A whole HTTP answer, its body in chunks."""

    def script(peer: Peer) -> None:
        peer.read_request()
        chunks = [f"{len(piece):x}\r\n{piece}\r\n" for piece in (*pieces, "")]
        peer.raw(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n{''.join(chunks)}".encode())

    return Refusal(script, int(status[:3]), "".join(pieces).replace(MARK, "[REDACTED]"))


def raw(*lines: str) -> Refusal:
    """An answer that is no HTTP, or no handshake."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.raw("\r\n".join([*lines, "", ""]).encode())

    return Refusal(script)


def endless(pieces: Iterable[bytes]) -> Refusal:
    def script(peer: Peer) -> None:
        peer.read_request()
        for piece in pieces:
            peer.raw(piece)
        raise AssertionError("the client takes all of it")

    return Refusal(script, shown="65536 bytes of headers")


def handshake(peer: Peer) -> bytes:
    """Returns the answer that would be right."""
    return peer.handshake("Server: some 1.0")


def changed(old: bytes, new: bytes) -> Refusal:
    """The right answer, but for one thing."""

    def script(peer: Peer) -> None:
        peer.read_request()
        right = handshake(peer)
        assert right.count(old) == 1
        peer.raw(right.replace(old, new))

    return Refusal(script)


def break_off(at: int, *, reset: bool) -> Refusal:
    """As much of the right answer, then FIN or RST."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.raw(handshake(peer)[:at])
        peer.cut(reset=reset)

    return Refusal(script, shown="connection reset" if reset else "closed during the handshake")


def never() -> Dict[str, Refusal]:
    """Tried once: it would be the same the next time."""
    page = "<html><body>Sign in, " + MARK + "</body></html>"
    elsewhere = "Location: ws://127.0.0.1:1/" + MARK
    switching = b"HTTP/1.1 101 Switching Protocols"
    return {
        **{str(code): said(f"{code} Moved", elsewhere) for code in (301, 302, 303, 307, 308)},
        **{str(code): said(f"{code} No") for code in (400, 401, 403, 404, 407, 410, 426, 500, 501, 505)},
        "a page of HTML": said("200 OK", "Content-Type: text/html", body=page),
        "no content": said("204 No Content"),
        "a reason in JSON": said("403 No", body=f'{{"error": {{"message": "no quota, {MARK}"}}}}')._replace(
            shown="HTTP 403 No (not with [REDACTED]): no quota, [REDACTED]"
        ),
        "a reason in chunks": chunked("403 No", "no ", f"quota, {MARK}"),
        "half a reason": said("403 No", "Content-Length: 100", body=f"no quota, {MARK}")._replace(
            shown=": no quota, [REDACTED]"
        ),
        "a body that never ends": said("403 No", body="x" * 1_000_000)._replace(shown=": " + "x" * 199 + "…"),
        "wrong Sec-WebSocket-Accept": changed(b"Accept: ", b"Accept: x"),
        "no Sec-WebSocket-Accept": changed(b"Sec-WebSocket-Accept: ", b"X: "),
        "no Upgrade": changed(b"Upgrade: websocket\r\n", b""),
        "another Upgrade": changed(b"Upgrade: websocket", b"Upgrade: h2c"),
        "no Connection": changed(b"Connection: Upgrade\r\n", b""),
        "an extension": changed(b"Server: some 1.0", b"Sec-WebSocket-Extensions: permessage-deflate"),
        "a subprotocol": changed(b"Server: some 1.0", b"Sec-WebSocket-Protocol: mine"),
        "no HTTP": raw("SSH-2.0-OpenSSH_9.6"),
        "no status": raw("HTTP/1.1"),
        "a status of letters": raw("HTTP/1.1 OK OK"),
        "HTTP of the future": changed(switching, b"HTTP/3 101 Switching Protocols"),
        "one endless header": endless([b"HTTP/1.1 101 OK\r\nX: ", *[b"x" * 65536] * 1000]),
        "endless headers": endless([b"HTTP/1.1 101 OK\r\n", *[b"X-One-More: yes\r\n" * 4096] * 1000]),
        "an endless first line": endless([b"HTTP/1.1 101 ", *[b"OK " * 20000] * 1000]),
    }


def for_a_while() -> Dict[str, Refusal]:
    """Tried again: the runtime may not be up yet."""

    def reset_at_once(peer: Peer) -> None:
        peer.cut(reset=True)

    return {
        **{str(code): said(f"{code} Booting") for code in (429, 502, 503, 504)},
        "come again now": said("503 Booting", "Retry-After: 0", "Date: nonsense"),
        "come again at a time that makes no sense": said("429 Slow", "Retry-After: soon"),
        "reset at once": Refusal(reset_at_once, shown="reset"),
        "closed before the answer": break_off(0, reset=False),
        "reset before the answer": break_off(0, reset=True),
        "closed within the answer": break_off(40, reset=False),
        "closed before its last byte": break_off(-1, reset=False),
    }


def silent() -> Dict[str, Refusal]:
    """Given up when the time is over."""

    def say(data: bytes) -> Refusal:
        def script(peer: Peer) -> None:
            peer.read_request()
            peer.raw(data)
            assert peer.readable(PATIENCE), "the client does not give up"

        return Refusal(script)

    def drip(head: bytes, then: bytes) -> Refusal:
        def script(peer: Peer) -> None:
            peer.read_request()
            for byte in head + then * 5000:
                if peer.readable(0.005):
                    return
                peer.raw(bytes([byte]))
            raise AssertionError("the client does not give up")

        return Refusal(script)

    def deaf(peer: Peer) -> None:
        """Does not even look at the request."""
        peer.read_request()
        assert peer.readable(PATIENCE), "the client does not give up"

    return {
        "no answer": Refusal(deaf),
        "half a first line": say(b"HTTP/1.1 1"),
        "half the headers": say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"),
        "half a header": say(b"HTTP/1.1 101 Switching Protocols\r\nX: "),
        "a first line that drips": drip(b"", b"HTTP/1.1 101 Switching Protocols"),
        "headers that drip": drip(b"HTTP/1.1 101 Switching Protocols\r\n", b"X-Drip: x\r\n"),
    }
