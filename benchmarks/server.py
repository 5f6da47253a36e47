"""A canned WebSocket server: one thread, no asyncio, frames made before they are asked for.

What a connection gets is said by its path: `/answer` answers each request by a result, `/stream/KIND/SIZE/COUNT` sends
COUNT messages of KIND ("output" or "assistant") with SIZE characters first, `/result/SIZE` answers by a result of SIZE
characters, and `/silent` answers nothing.

With a certificate it serves TLS: `python -m benchmarks.server CERTIFICATE`.
"""

import base64
import contextlib
import functools
import hashlib
import json
import selectors
import socket
import ssl
import struct
import subprocess
import sys
from collections import deque
from typing import Any, Deque, Dict, Iterator, Optional

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_READ_SIZE = 256 * 1024

#: What is sent at once is made of whole frames of about this size.
_BLOCK = 1024 * 1024
#: A line of a command's output: its end is what JSON must escape.
_LINE = "tests/unit/test_parser.py::test_a_frame_in_two_pieces PASSED [ 42%]\n"


def frame(payload: bytes) -> bytes:
    """Returns a server's text frame (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


def _message(**fields: object) -> bytes:
    return frame(json.dumps(fields).encode())


_END = _message(message_type="end_session_confirm_message")


def _result(text: str) -> bytes:
    return _message(message_type="result_message", data={"type": "text", "text": text}, metadata={})


@functools.lru_cache(maxsize=None)
def reply(path: str) -> "tuple[memoryview, ...]":
    """Returns what a request on this path is answered by, in blocks."""
    _, kind, *arguments = path.split("/")
    if kind == "silent":
        return ()
    if kind == "result":
        return (memoryview(_result("r" * int(arguments[0]))),)
    if kind == "answer":
        return (memoryview(_result("done")),)
    what, size, count = arguments[0], int(arguments[1]), int(arguments[2])
    text = (_LINE * (size // len(_LINE) + 1))[:size] if what == "lines" else "x" * size
    if what in ("output", "lines"):
        one = _message(message_type="command_output_message", stream="stdout", text=text, command="c")
    else:
        one = _message(message_type="assistant_message", text_blocks=[text])
    at_once = max(1, _BLOCK // len(one))
    block = memoryview(one * at_once)
    rest = memoryview(one * (count % at_once) + _result("done"))
    return (block,) * (count // at_once) + (rest,)


class Connection:
    """One client."""

    def __init__(self, sock: Any, selector: selectors.BaseSelector) -> None:
        self._sock = sock
        self._selector = selector
        self._received = b""
        self._path = ""
        self._out: Deque[memoryview] = deque()
        self._ends = False
        selector.register(sock, selectors.EVENT_READ, self)

    def on_ready(self, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                self._read()
            self._flush()
        except (ConnectionError, ssl.SSLError):
            self._close()

    def _read(self) -> None:
        while True:
            try:
                # Over TLS, the first reads are the handshake.
                data = self._sock.recv(_READ_SIZE)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            if not data:
                raise ConnectionError
            self._received += data
            if self._path or self._open():
                self._read_frames()
            if not isinstance(self._sock, ssl.SSLSocket) or not self._sock.pending():
                return

    def _open(self) -> bool:
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return False
        self._received = rest
        lines = head.split(b"\r\n")
        self._path = lines[0].split(b" ")[1].decode()
        headers: Dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        accept = base64.b64encode(hashlib.sha1(headers[b"sec-websocket-key"] + _GUID).digest())
        self._out.append(
            memoryview(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
        )
        return True

    def _read_frames(self) -> None:
        data = self._received
        while len(data) >= 6:
            size, start = data[1] & 0x7F, 2
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(data[2:10], "big"), 10
            end = start + 4 + size
            if len(data) < end:
                break
            self._on_frame(data[0] & 0x0F, data[start : start + 4], data[start + 4 : end])
            data = data[end:]
        self._received = data

    def _on_frame(self, opcode: int, mask: bytes, masked: bytes) -> None:
        if opcode == 8:
            self._out.append(memoryview(b"\x88\x02\x03\xe8"))
            self._ends = True
        elif opcode == 9:
            self._out.append(memoryview(b"\x8a" + bytes([len(masked)]) + _unmask(mask, masked)))
        elif opcode == 1:
            payload = _unmask(mask, masked)
            if b'"end_session_message"' in payload:
                self._out.append(memoryview(_END))
            elif b'"cancel_message"' not in payload:
                self._out.extend(reply(self._path))

    def _flush(self) -> None:
        while self._out:
            try:
                sent = self._sock.send(self._out[0])
            except (BlockingIOError, ssl.SSLWantWriteError):
                break
            if sent == len(self._out[0]):
                self._out.popleft()
            else:
                self._out[0] = self._out[0][sent:]
        if self._ends and not self._out:
            raise ConnectionError
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        if self._selector.get_key(self._sock).events != wanted:
            self._selector.modify(self._sock, wanted, self)

    def _close(self) -> None:
        self._selector.unregister(self._sock)
        self._sock.close()


def _unmask(mask: bytes, masked: bytes) -> bytes:
    size = len(masked)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(masked, "big") ^ key).to_bytes(size, "big")


def serve(certificate: Optional[str]) -> None:
    """Serves for ever; prints the port first."""
    context: Optional[ssl.SSLContext] = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    selector.register(listener, selectors.EVENT_READ)
    print(listener.getsockname()[1], flush=True)
    while True:
        for key, events in selector.select():
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    sock, _ = listener.accept()
                    sock.setblocking(False)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if context is not None:
                        sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                    Connection(sock, selector)
            else:
                key.data.on_ready(events)


@contextlib.contextmanager
def running(*certificate: str) -> Iterator[int]:
    """Runs the server in a process of its own, over TLS if it is given a certificate; yields its port."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.server", *certificate], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    serve(sys.argv[1] if len(sys.argv) > 1 else None)
