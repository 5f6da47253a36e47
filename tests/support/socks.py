"""A small SOCKS server, versions 4, 4a and 5, that does what a test tells it to; it shares no code with the package."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from types import TracebackType
from typing import Dict, List, Optional, Tuple, Type

from .servers import PATIENCE, FaultServer, Peer, PeerGone

#: Replies of success, by version.
GRANTED = {4: 0x5A, 5: 0x00}


class SocksServer:
    """Connects clients to where they want to go.

    Args:
        user: User and password to ask for (version 5), or the user (version 4), if any.
        reply: The reply to a request to connect; `None` for success.
        silent_after: How many of a client's messages are answered before it falls silent; `None` for all.
        hosts: What names lead to, as only this proxy knows.

    Attributes:
        requests: Version, host as it was named, and port, of each request to connect.
        users: With whom clients have introduced themselves.
    """

    def __init__(
        self,
        user: Optional[Tuple[str, str]] = None,
        *,
        reply: Optional[int] = None,
        silent_after: Optional[int] = None,
        hosts: Optional[Dict[str, str]] = None,
    ) -> None:
        self.requests: List[Tuple[int, str, int]] = []
        self.users: List[Tuple[str, str]] = []
        self._user = user
        self._reply = reply
        self._silent_after = silent_after
        self._hosts = hosts or {}
        self._answers: Dict[int, int] = {}
        self.server = FaultServer(self._serve)

    def url(self, scheme: str, credentials: str = "") -> str:
        return f"{scheme}://{credentials}127.0.0.1:{self.server.port}"

    def _serve(self, peer: Peer) -> None:
        self._talk(peer)
        # Silent, or refused: it is for the client to go. There is no WebSocket to listen to.
        with contextlib.suppress(ConnectionError), peer.sock:
            while peer.sock.fileno() >= 0 and peer.sock.recv(4096):
                pass

    def _talk(self, peer: Peer) -> None:
        version = _exactly(peer, 1)[0]
        where = self._socks5(peer) if version == 5 else self._socks4(peer)
        if where is None:
            return
        self.requests.append((version, *where))
        host, port = where
        code = GRANTED[version] if self._reply is None else self._reply
        head = struct.pack("!BBBB", 5, code, 0, 1) if version == 5 else struct.pack("!BBH", 0, code, 0)
        if not self._answer(peer, head + bytes(6 if version == 5 else 4)) or code != GRANTED[version]:
            return
        with socket.create_connection((self._hosts.get(host, host), port), PATIENCE) as upstream:
            _relay(peer.sock, upstream)

    def _socks4(self, peer: Peer) -> Optional[Tuple[str, int]]:
        _, port, address = struct.unpack("!BH4s", _exactly(peer, 7))
        user = _until_nul(peer)
        self.users.append((user, ""))
        host = socket.inet_ntoa(address)
        if address[:3] == b"\0\0\0":
            host = _until_nul(peer)
        if self._user is not None and user != self._user[0]:
            self._answer(peer, struct.pack("!BBH", 0, 0x5D, 0) + bytes(4))
            return None
        return host, port

    def _socks5(self, peer: Peer) -> Optional[Tuple[str, int]]:
        methods = _exactly(peer, _exactly(peer, 1)[0])
        method = 0 if self._user is None else 2
        if method not in methods:
            method = 0xFF
        if not self._answer(peer, bytes([5, method])) or method == 0xFF:
            return None
        if method == 2:
            assert _exactly(peer, 1) == b"\1"
            user = _exactly(peer, _exactly(peer, 1)[0]).decode()
            password = _exactly(peer, _exactly(peer, 1)[0]).decode()
            self.users.append((user, password))
            if not self._answer(peer, bytes([1, 0 if (user, password) == self._user else 1])):
                return None
            if (user, password) != self._user:
                return None
        assert _exactly(peer, 3) == b"\5\1\0"
        kind = _exactly(peer, 1)[0]
        if kind == 3:
            host = _exactly(peer, _exactly(peer, 1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, _exactly(peer, size))
        return host, int.from_bytes(_exactly(peer, 2), "big")

    def _answer(self, peer: Peer, data: bytes) -> bool:
        """Answers in single bytes, unless it is to be silent by now; returns whether it has answered."""
        answers = self._answers.get(peer.number, 0)
        if self._silent_after is not None and answers >= self._silent_after:
            return False
        self._answers[peer.number] = answers + 1
        for byte in data:
            peer.raw(bytes([byte]))
        return True

    def __enter__(self) -> SocksServer:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.server.__exit__(kind, error, trace)


def _exactly(peer: Peer, size: int) -> bytes:
    # No more than that: what comes after it is for the runtime.
    data = b""
    while len(data) < size:
        try:
            more = peer.sock.recv(size - len(data))
        except ConnectionError as error:
            raise PeerGone(str(error)) from error
        if not more:
            raise PeerGone("in the middle of a request")
        data += more
    return data


def _until_nul(peer: Peer) -> str:
    text = b""
    while not text.endswith(b"\0"):
        text += _exactly(peer, 1)
    return text[:-1].decode()


def _relay(client: socket.socket, upstream: socket.socket) -> None:
    ends = {client: upstream, upstream: client}
    while True:
        for end in select.select(list(ends), [], [], PATIENCE)[0]:
            data = end.recv(65536)
            if not data:
                client.close()
                return
            ends[end].sendall(data)
