"""The HTTP that opening a connection needs: sends a request, reads the head of one response, explains a refusal.

A refusal is any response but the wanted one. Providers put what a person needs to know into its body, as a line of text
or as JSON. The body is read for a moment and up to a size; if that fails, the refusal is reported without it.

Threads: everything runs in the thread that will own the socket. The socket is non-blocking, and each wait is one of the
`Opener`, which ends it when the time is over.
"""

import base64
import calendar
import email.utils
import re
import socket
import ssl
import time
from typing import Any, Dict, List, Optional, Tuple
from urllib.parse import unquote

from .._wire.json_text import load_json
from .._wire.redaction import scrub
from .attempt import Opener, OpeningFailed, OpeningInterrupted, Wait, closed_early, os_failure

#: The longest head of a response that is read, in bytes.
MAX_HEAD = 64 * 1024

TOO_MANY_REQUESTS = 429

#: The statuses of a server whose runtime may not be up yet.
RETRYABLE_STATUS = (TOO_MANY_REQUESTS, 502, 503, 504)

#: The most bytes of a body that are read, for how many seconds at most, and the longest silence in seconds while the
#: length of the body is unknown.
_MOST = 64 * 1024
_LONGEST = 1.0
_LONGEST_SILENCE = 0.25

#: The most characters of a reason that are shown.
SHOWN = 200

#: The keys that hold the reason in JSON, the most telling first.
_KEYS = ("message", "error_description", "detail", "error", "errors", "msg", "title")

#: A text may have been cut inside a secret. So the beginning of a secret at its end is masked if it has more characters
#: than this, or more than half of the secret.
_BEGINNING = 8


def send_all(sock: socket.socket, data: bytes, wait: Wait) -> None:
    """Sends all of `data`.

    Raises:
        OpeningFailed: the connection was closed or reset.
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
    """Sends a request, and returns the head of the response and what came after it, as `read_head` does.

    A server may refuse, and close the connection before it has read the request. Its response is a reason not to try
    again, so it is read even if sending failed.

    Raises:
        OpeningFailed: there is no response.
    """
    unsent: Optional[OpeningFailed] = None
    try:
        send_all(sock, request, wait)
    except OpeningFailed as failure:
        if not failure.retryable:
            raise
        unsent = failure
    try:
        return read_head(sock, wait)
    except OpeningFailed as failure:
        if unsent is None or not failure.retryable:
            raise
        # The operating system reports a reset only once, to the send; to the read the connection looks closed.
        raise unsent from None


def receive(sock: socket.socket, size: int, wait: Wait) -> bytes:
    """Returns the next bytes, `size` at most; `b""` once the peer has closed the connection.

    Raises:
        OpeningFailed: the connection was reset.
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


def read_head(sock: socket.socket, wait: Wait) -> Tuple[bytes, bytes]:
    """Returns the head of an HTTP response, with its empty line, and the bytes received after it.

    Raises:
        OpeningFailed: the connection was closed or reset, or the head is longer than `MAX_HEAD`.
    """
    received = bytearray()
    while True:
        at = received.find(b"\r\n\r\n")
        if at >= 0:
            return bytes(received[: at + 4]), bytes(received[at + 4 :])
        if len(received) > MAX_HEAD:
            raise OpeningFailed(f"the response to the handshake has more than {MAX_HEAD} bytes of headers")
        data = receive(sock, 16384, wait)
        if not data:
            raise closed_early()
        received += data


def parse_status(head: bytes) -> Tuple[int, str]:
    """Returns the status and the reason phrase in the head of a response.

    Raises:
        OpeningFailed: the head is not HTTP.
    """
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not re.fullmatch("[0-9]{3}", words[1]):
        raise OpeningFailed("the response to the handshake is not HTTP")
    return int(words[1]), words[2] if len(words) > 2 else ""


def basic_authorization(username: str, password: Optional[str]) -> str:
    """Returns the value of an `Authorization` header for percent-encoded URL credentials (RFC 7617)."""
    credentials = f"{unquote(username)}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(credentials.encode("utf-8")).decode("ascii")


# Refusals.


def refusal(what: str, sock: socket.socket, answer: Tuple[bytes, bytes], opener: Opener, secrets: List[str]) -> Any:
    """Returns the failure for a response that refuses.

    Args:
        what: Who refused what, for the text.
        sock: Where the rest of the response comes from.
        answer: The head of the response, and the bytes received after it.
        opener: Waits for the rest, and knows which refusals may pass.
        secrets: What must not be shown.

    Raises:
        OpeningFailed: the response is not HTTP.
    """
    head, received = answer
    status, reason = parse_status(head)
    headers = _headers(head)
    text = f"{what}: HTTP {status} {_shown(reason, secrets)}".rstrip()
    said = _shown(_reason(_body(sock, status, headers, received, opener)), secrets)
    if said:
        text += f": {said}"
    retryable = opener.may_pass(status)
    seconds = retry_after(headers) if retryable else None
    if seconds is not None:
        text += f" (it asks to wait for {seconds:g} s)"
    return OpeningFailed(text, retryable=retryable, status=status, retry_after=seconds)


def retry_after(headers: Dict[str, str]) -> Optional[float]:
    """Returns the seconds to wait that a response asks for (RFC 9110 §10.2.3); `None` for none, or an invalid value.

    A date is compared with the response's own date, since clocks differ; without one, with this machine's clock.
    """
    value = headers.get("retry-after", "")
    if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", value):
        return max(0.0, float(value))
    at = _timestamp(value)
    if at is None:
        return None
    now = _timestamp(headers.get("date", ""))
    return max(0.0, at - (time.time() if now is None else now))


def _timestamp(date: str) -> Optional[float]:
    """Returns an HTTP date, in any of its three forms, as seconds since 1970; `None` if it is invalid."""
    try:
        parsed = email.utils.parsedate_tz(date)
        return None if parsed is None else calendar.timegm((*parsed[:6], 0, 1, -1)) - (parsed[9] or 0)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def _headers(head: bytes) -> Dict[str, str]:
    """Returns the headers of a response, by names in lower case; of repeated headers, the first."""
    headers: Dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    return headers


# The body.


def _body(sock: socket.socket, status: int, headers: Dict[str, str], received: bytes, opener: Opener) -> bytes:
    """Returns what arrives of the body in a moment; nothing if the body is compressed or encoded."""
    coding = headers.get("transfer-encoding", "").lower()
    if status in (204, 304) or coding not in ("", "chunked"):
        return b""
    if headers.get("content-encoding", "identity").lower() != "identity":
        return b""
    length = headers.get("content-length", "")
    size = min(int(length), _MOST) if re.fullmatch("[0-9]{1,20}", length) else None
    body = bytearray(received)
    until = opener.now() + _LONGEST
    while len(body) < _MOST and not _is_whole(body, size, coding):
        seconds = until - opener.now()
        if size is None and not coding:
            seconds = min(seconds, _LONGEST_SILENCE)
        data = _receive(sock, opener, seconds)
        if not data:
            break
        body += data
    return _unchunked(bytes(body))[0] if coding else bytes(body if size is None else body[:size])


def _is_whole(body: bytearray, size: Optional[int], coding: str) -> bool:
    if coding:
        return _unchunked(bytes(body))[1]
    return size is not None and len(body) >= size


def _receive(sock: socket.socket, opener: Opener, seconds: float) -> bytes:
    """Returns what arrives within `seconds`; nothing if nothing does, or if the connection ends."""
    until = opener.now() + seconds

    def wait(_: socket.socket, read: bool, write: bool) -> None:
        opener.wait(sock, read, write, until - opener.now())
        if opener.now() >= until:
            raise OpeningInterrupted("the body takes too long")

    try:
        return receive(sock, 16384, wait) if seconds > 0 else b""
    except (OSError, OpeningFailed, OpeningInterrupted):
        # The refusal is the failure to report. An interruption is noticed again at the next wait.
        return b""


def _unchunked(data: bytes) -> Tuple[bytes, bool]:
    """Returns the content of the chunks received so far (RFC 9112 §7.1), and whether they are complete."""
    body = b""
    while True:
        line, found, data = data.partition(b"\r\n")
        size = re.fullmatch(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(;.*)?", line)
        if not found:
            return body, False
        if size is None:
            return body, True
        length = int(size.group(1), 16)
        if length == 0:
            return body, True
        body += data[:length]
        if len(data) < length + 2:
            return body, False
        data = data[length + 2 :]


# The reason.


def _reason(body: bytes) -> str:
    """Returns the reason that a body states: that in JSON, the title of a page, or else the first line."""
    text = body.decode("utf-8", "replace").lstrip("\ufeff").strip()
    try:
        return _reason_in_json(load_json(text)) or " ".join(text.split())
    except (ValueError, RecursionError):
        pass
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>(.*?)</title", text, re.IGNORECASE | re.DOTALL)
        return title.group(1) if title else ""
    return text.partition("\n")[0]


def _reason_in_json(value: Any) -> str:
    if isinstance(value, list) and value:
        return _reason_in_json(value[0])
    if isinstance(value, dict):
        return next(filter(None, (_reason_in_json(value[key]) for key in _KEYS if key in value)), "")
    return value.strip() if isinstance(value, str) else ""


def _shown(text: str, secrets: List[str]) -> str:
    """Returns a text of the peer in one line, without control characters and secrets, cut to `SHOWN` characters."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    masked = scrub(plain, secrets)
    for secret in secrets:
        for size in range(min(len(secret), len(masked)), max(2, min(_BEGINNING, len(secret) // 2)), -1):
            if masked.endswith(secret[:size]):
                masked = masked[:-size].rstrip() + "…"
                break
    return masked if len(masked) <= SHOWN else masked[: SHOWN - 1].rstrip() + "…"
