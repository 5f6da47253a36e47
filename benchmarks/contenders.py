"""The same work, done by our client, by the async client, and by a raw socket that only looks for the end."""

import asyncio
import base64
import json
import os
import socket
import ssl
import struct
from typing import Any, Callable, Optional

import runtimeuse_client as reference

from runtimeuse_sync import RuntimeUseClient

_REQUEST = json.dumps(
    {"message_type": "invocation_message", "user_prompt": "p", "system_prompt": "", "model": "m"}
).encode()


class Work:
    """What can be asked of the canned server at one port.

    Args:
        port: The port.
        secure: Whether it serves TLS. All contenders trust the default authorities. The raw socket loads them once, and
            resumes its TLS session from the second connection on, as our client does.
    """

    def __init__(self, port: int, *, secure: bool = False) -> None:
        self._port = port
        self.secure = secure
        self._host = "localhost" if secure else "127.0.0.1"
        self._context = ssl.create_default_context() if secure else None
        self._tls_session: Optional[ssl.SSLSession] = None

    def _url(self, path: str) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self._host}:{self._port}{path}"

    # Ours.

    def ours(self, path: str) -> RuntimeUseClient:
        """Returns a client for this path."""
        return RuntimeUseClient(self._url(path), model="m")

    def our_query(self, path: str, **callbacks: Any) -> Callable[[], object]:
        """Returns the work of one query."""
        client = self.ours(path)
        return lambda: client.query("p", **callbacks)

    def our_round_trips(self, calls: int) -> Callable[[], object]:
        """Returns the work of so many queries on a session."""
        client = self.ours("/answer")

        def run() -> None:
            with client.session() as session:
                for _ in range(calls):
                    session.query("p")

        return run

    # The async client.

    def _theirs(self, path: str) -> Any:
        return reference.RuntimeUseClient(ws_url=self._url(path))

    async def their_call(self, path: str, **callbacks: Any) -> None:
        """One query."""
        await self._theirs(path).query("p", reference.QueryOptions(system_prompt="", model="m", **callbacks))

    def their_query(self, path: str, **callbacks: Any) -> Callable[[], object]:
        """Returns the work of one query, as a caller without a loop does it."""
        return lambda: asyncio.run(self.their_call(path, **callbacks))

    def their_round_trips(self, calls: int) -> Callable[[], object]:
        """Returns the work of so many queries on a session, in one event loop."""

        async def run() -> None:
            options = reference.QueryOptions(system_prompt="", model="m")
            async with self._theirs("/answer").session() as session:
                for _ in range(calls):
                    await session.query("p", options)

        return lambda: asyncio.run(run())

    # The physical limit.

    def raw_open(self, path: str) -> socket.socket:
        """Connects, and shakes hands."""
        sock = socket.create_connection((self._host, self._port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_hostname=self._host, session=self._tls_session)
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(4096)
        return sock

    def raw_request(self, sock: socket.socket) -> None:
        """Sends a request, and reads until the result."""
        sock.sendall(struct.pack("!BBH", 0x81, 0x80 | 126, len(_REQUEST)) + bytes(4) + _REQUEST)
        buffer = bytearray(256 * 1024)
        view, tail = memoryview(buffer), b""
        while b'"result_message"' not in tail:
            received = sock.recv_into(view)
            tail = tail[-200:] + bytes(view[max(0, received - 400) : received])
        if isinstance(sock, ssl.SSLSocket):
            # Its tickets have come with the answer.
            self._tls_session = sock.session

    def raw_query(self, path: str) -> Callable[[], object]:
        """Returns the work of one query."""

        def run() -> None:
            with self.raw_open(path) as sock:
                self.raw_request(sock)

        return run

    def raw_round_trips(self, calls: int) -> Callable[[], object]:
        """Returns the work of so many queries on one connection."""

        def run() -> None:
            with self.raw_open("/answer") as sock:
                for _ in range(calls):
                    self.raw_request(sock)

        return run
