"""The little HTTP that opening a connection needs: sending all, and reading one answer's head, without blocking.

Everything runs in the thread that owns the socket; each wait goes through the `Wait` that the caller gives.
"""

import base64
import errno
import re
import socket
import ssl
from typing import Any, Callable, Optional, Tuple
from urllib.parse import unquote

#: Waits until the socket can be read from (first flag) or written to (second flag).
Wait = Callable[[socket.socket, bool, bool], Any]

#: The longest answer to a handshake that is read, in bytes.
MAX_ANSWER = 64 * 1024

TOO_MANY_REQUESTS = 429
RETRYABLE_STATUS = (TOO_MANY_REQUESTS, 502, 503, 504)
RETRYABLE_ERRNO = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ENOTCONN,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
)


class OpeningFailed(Exception):
    """One attempt to open the connection failed.

    Attributes:
        retryable: Whether the runtime may just not be up yet.
        status: The HTTP status of the answer, where there was one.
        retry_after: For how many seconds the answer asks to leave it alone.
        unheard: Whether nobody has accepted the connection, so that an attempt costs no more than a packet.
    """

    def __init__(
        self,
        reason: str,
        *,
        retryable: bool = False,
        status: Optional[int] = None,
        retry_after: Optional[float] = None,
        unheard: bool = False,
    ) -> None:
        super().__init__(reason)
        self.retryable = retryable
        self.status = status
        self.retry_after = retry_after
        self.unheard = unheard


class OpeningInterrupted(Exception):
    """The time is over, or nobody wants the connection any more; raised by the `Wait` that an opening is given."""


def os_failure(error: OSError, *, unheard: bool = False) -> OpeningFailed:
    """Returns what an error of the operating system, or of TLS, means for the attempt."""
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return OpeningFailed("the connection was closed during the handshake", retryable=True)
    if isinstance(error, ssl.SSLError):
        return OpeningFailed(f"TLS: {error.reason or error}")
    names = {errno.ECONNREFUSED: "connection refused", errno.ECONNRESET: "connection reset"}
    text = names.get(error.errno or 0) or error.strerror or str(error)
    return OpeningFailed(text, retryable=error.errno in RETRYABLE_ERRNO, unheard=unheard)


def send_all(sock: socket.socket, data: bytes, wait: Wait) -> None:
    """Sends all of `data`.

    Raises:
        OpeningFailed: the connection is gone.
    """
    while data:
        try:
            data = data[sock.send(data) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            wait(sock, False, True)
        except ssl.SSLWantReadError:
            wait(sock, True, False)
        except OSError as error:
            raise os_failure(error) from error


def ask(sock: socket.socket, request: bytes, wait: Wait) -> Tuple[bytes, bytes]:
    """Sends a request, and returns what `read_answer` does.

    Who refuses may say so and be gone before it has read the request: that is not a connection to be tried again.

    Raises:
        OpeningFailed: there is no answer.
    """
    unsent: Optional[OpeningFailed] = None
    try:
        send_all(sock, request, wait)
    except OpeningFailed as failure:
        if not failure.retryable:
            raise
        unsent = failure
    try:
        return read_answer(sock, wait)
    except OpeningFailed as failure:
        if unsent is None or not failure.retryable:
            raise
        # That the peer has reset the connection is told once, and then it looks closed.
        raise unsent from None


def receive(sock: socket.socket, size: int, wait: Wait) -> bytes:
    """Returns the next bytes, `size` at most; none at the end of the stream.

    Raises:
        OpeningFailed: the connection is gone.
    """
    while True:
        try:
            return sock.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError):
            wait(sock, True, False)
        except ssl.SSLWantWriteError:
            wait(sock, False, True)
        except OSError as error:
            raise os_failure(error) from error


def closed_early() -> OpeningFailed:
    """Returns the failure for a peer that has closed before it had said all."""
    return OpeningFailed("the connection was closed during the handshake", retryable=True)


def read_answer(sock: socket.socket, wait: Wait) -> Tuple[bytes, bytes]:
    """Returns the head of an HTTP answer (with its empty line), and what came after it.

    Raises:
        OpeningFailed: the connection is gone, or the head is longer than `MAX_ANSWER`.
    """
    received = bytearray()
    while True:
        at = received.find(b"\r\n\r\n")
        if at >= 0:
            return bytes(received[: at + 4]), bytes(received[at + 4 :])
        if len(received) > MAX_ANSWER:
            raise OpeningFailed(f"the answer to the handshake has more than {MAX_ANSWER} bytes of headers")
        data = receive(sock, 16384, wait)
        if not data:
            raise closed_early()
        received += data


def parse_status(head: bytes) -> Tuple[int, str]:
    """Returns status and reason of an answer's head.

    Raises:
        OpeningFailed: it is not HTTP.
    """
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not re.fullmatch("[0-9]{3}", words[1]):
        raise OpeningFailed("the answer to the handshake is not HTTP")
    return int(words[1]), words[2] if len(words) > 2 else ""


def basic_authorization(username: str, password: Optional[str]) -> str:
    """Returns the value of an `Authorization` header for percent-encoded URL credentials (RFC 7617)."""
    credentials = f"{unquote(username)}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(credentials.encode("utf-8")).decode("ascii")
