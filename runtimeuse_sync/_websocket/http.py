"""The little HTTP that opening a connection needs: sending all, and reading one answer's head, without blocking.

Everything runs in the thread that owns the socket; each wait goes through the `Wait` that the caller gives.
"""

import base64
import calendar
import email.utils
import json
import re
import socket
import ssl
import time
from typing import Any, Dict, List, Optional, Tuple
from urllib.parse import unquote

from .._wire.redaction import scrub
from .attempt import Opener, OpeningFailed, OpeningInterrupted, Wait, closed_early, os_failure

#: The longest answer to a handshake that is read, in bytes.
MAX_ANSWER = 64 * 1024

TOO_MANY_REQUESTS = 429
RETRYABLE_STATUS = (TOO_MANY_REQUESTS, 502, 503, 504)

#: How much of a body is read, for how many seconds, and for how many if nobody has said how long it is.
_MOST = 64 * 1024
_LONGEST = 1.0
_LONGEST_SILENCE = 0.25

#: How much of a reason is shown, in characters.
SHOWN = 200

#: Where JSON keeps its reason, what says most first.
_KEYS = ("message", "error_description", "detail", "error", "errors", "msg", "title")

#: The beginning of a secret that is masked at the end of a text, which may have been cut there: so long, or half of it.
_BEGINNING = 8


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


# Refusals.


def refusal(what: str, sock: socket.socket, answer: Tuple[bytes, bytes], opener: Opener, secrets: List[str]) -> Any:
    """Returns the failure that an answer other than the wanted one means.

    Args:
        what: Who has refused what.
        sock: Where the rest of the answer comes from.
        answer: Its head, and what has come of its body.
        opener: Waits for the rest.
        secrets: What must not be shown.

    Raises:
        OpeningFailed: it is not HTTP.
    """
    head, received = answer
    status, reason = parse_status(head)
    headers = _headers(head)
    text = f"{what}: HTTP {status} {_shown(reason, secrets)}".rstrip()
    said = _shown(_reason(_body(sock, status, headers, received, opener)), secrets)
    if said:
        text += f": {said}"
    retryable = status in RETRYABLE_STATUS
    seconds = retry_after(headers) if retryable else None
    if seconds is not None:
        text += f" (asks to wait for {seconds:g} s)"
    return OpeningFailed(text, retryable=retryable, status=status, retry_after=seconds)


def retry_after(headers: Dict[str, str]) -> Optional[float]:
    """Returns for how many seconds an answer asks to wait (RFC 9110 §10.2.3); `None` if it does not, or makes no sense.

    A date is held against the answer's own, as clocks differ; without one, against this machine's clock.
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
    """Returns a date of HTTP, in any of its three forms, in seconds since 1970; `None` for what is none."""
    try:
        parsed = email.utils.parsedate_tz(date)
        return None if parsed is None else calendar.timegm((*parsed[:6], 0, 1, -1)) - (parsed[9] or 0)
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def _headers(head: bytes) -> Dict[str, str]:
    """Returns an answer's headers, names in lower case; of those that come more than once, the first."""
    headers: Dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    return headers


# The body.


def _body(sock: socket.socket, status: int, headers: Dict[str, str], received: bytes, opener: Opener) -> bytes:
    """Returns what can be had of the body in a moment; nothing of one that would have to be decoded."""
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
    """Returns what comes within a time; nothing if that is over, or the connection."""
    until = opener.now() + seconds
    try:
        while True:
            left = until - opener.now()
            if left <= 0:
                return b""
            try:
                return sock.recv(16384)
            except (BlockingIOError, ssl.SSLWantReadError):
                opener(sock, True, False, left)
            except ssl.SSLWantWriteError:
                opener(sock, False, True, left)
    except (OSError, OpeningFailed, OpeningInterrupted):
        # The refusal is what there is to tell; who wants to end this notices at the next wait.
        return b""


def _unchunked(data: bytes) -> Tuple[bytes, bool]:
    """Returns what chunks hold (RFC 9112 §7.1), as far as they have come, and whether they have come to their end."""
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
    """Returns what a body says to a person: the reason in JSON, the title of a page, or else the first line."""
    text = body.decode("utf-8", "replace").lstrip("\ufeff").strip()
    try:
        return _reason_in_json(json.loads(text)) or " ".join(text.split())
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
    """Returns a foreign text in one line, without control characters and secrets, cut to what is shown."""
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    masked = scrub(plain, secrets)
    for secret in secrets:
        for size in range(min(len(secret), len(masked)), max(2, min(_BEGINNING, len(secret) // 2)), -1):
            if masked.endswith(secret[:size]):
                masked = masked[:-size].rstrip() + "…"
                break
    return masked if len(masked) <= SHOWN else masked[: SHOWN - 1].rstrip() + "…"
