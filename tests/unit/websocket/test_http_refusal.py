"""What a refused handshake says: the reason in its body, and when to come again."""

from __future__ import annotations

import json
import socket
import time
from typing import Any, Dict, List, Optional

import pytest

from runtimeuse_sync._websocket.attempt import OpeningFailed, OpeningInterrupted
from runtimeuse_sync._websocket.http import SHOWN, refusal, retry_after

from ...support.openers import SelectOpener
from ...support.servers import PATIENCE

SECRET = "s3cr3t-0123456789"


class Unhurried(SelectOpener):
    """For whom no time passes: what has come is read, however busy the machine."""

    def now(self) -> float:
        return 0.0


def refused(
    head: str, received: bytes = b"", *later: bytes, ends: bool = False, opener: Optional[SelectOpener] = None
) -> OpeningFailed:
    """Returns the failure for an answer whose first part has been read already."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        for piece in later:
            theirs.sendall(piece)
        if ends:
            theirs.shutdown(socket.SHUT_WR)
        answer = ("HTTP/1.1 " + head.replace("\n", "\r\n") + "\r\n\r\n").encode("latin-1")
        failure = refusal("refused", ours, (answer, received), opener or Unhurried(), [SECRET])
    assert isinstance(failure, OpeningFailed)
    return failure


def text_of(body: bytes) -> str:
    return str(refused(f"403 No\nContent-Length: {len(body)}", body))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"no quota left", "no quota left"),
        (b"\xef\xbb\xbf\r\n  no quota left \r\nsecond line", "no quota left"),
        ("kein Kontingent für dich".encode(), "kein Kontingent für dich"),
        (b'{"message": "no quota left"}', "no quota left"),
        (b'{"error": "no quota left"}', "no quota left"),
        (b'{"detail": "no quota left"}', "no quota left"),
        (b'{"error": {"code": 7, "message": "no quota left"}}', "no quota left"),
        (b'{"error": "quota", "message": "no quota left"}', "no quota left"),
        (b'{"error": "quota", "error_description": "no quota left"}', "no quota left"),
        (b'{"detail": [{"loc": ["x"], "msg": "no quota left"}]}', "no quota left"),
        (b'{"errors": [{"message": "no quota left"}, {"message": "nor time"}]}', "no quota left"),
        (b'{"message": null, "error": "no quota left"}', "no quota left"),
        (b'"no quota left"', "no quota left"),
        (b'{\n  "code": 7\n}', '{ "code": 7 }'),
        (b"<html><head><title>429\nSlow down</title></head><body>", "429 Slow down"),
        (b"no \x1b[31mquota\x07\x00 left\x7f", "no [31mquota left"),
        (b"no\xff quota", "no\ufffd quota"),
        ("no \u202equota\u2028left".encode(), "no quota left"),
    ],
)
def test_the_reason_is_shown(body: bytes, said: str) -> None:
    assert text_of(body) == f"refused: HTTP 403 No: {said}"


@pytest.mark.parametrize("body", [b"", b"  \r\n ", b"<html><body><p>Sign in", b"{}", b"null"])
def test_a_body_that_says_nothing(body: bytes) -> None:
    assert text_of(body) in ("refused: HTTP 403 No", f"refused: HTTP 403 No: {body.decode()}")


def test_a_json_value_that_is_far_too_deep() -> None:
    assert text_of(b"[" * 60000).startswith("refused: HTTP 403 No: [[[")


@pytest.mark.parametrize("body", [b"x" * 5000, json.dumps({"message": "x" * 5000}).encode()])
def test_it_is_cut(body: bytes) -> None:
    said = text_of(body).split(": ")[-1]
    assert said == "x" * (SHOWN - 1) + "…"


def test_a_status_line_is_no_better() -> None:
    assert str(refused(f"403 No\x1b \x07{SECRET}" + "x" * 5000, ends=True)).startswith(
        "refused: HTTP 403 No [REDACTED]xx"
    )
    assert len(str(refused("403 " + "x" * 5000, ends=True))) < SHOWN + 30


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (f"who is {SECRET}?", "who is [REDACTED]?"),
        (json.dumps({"message": f"who is {SECRET}?"}), "who is [REDACTED]?"),
        ("x" * (SHOWN - 5) + SECRET, "x" * (SHOWN - 5) + "[RED…"),
        # Cut by the server, or by the time.
        (f"who is {SECRET[:9]}", "who is…"),
        (f"who is {SECRET[:-1]}", "who is…"),
    ],
)
def test_secrets_are_not_shown(body: str, said: str) -> None:
    assert text_of(body.encode()) == f"refused: HTTP 403 No: {said}"


@pytest.mark.parametrize(
    ("head", "pieces", "ends"),
    [
        ("Content-Length: 9", [b"no quota."], False),
        ("Content-Length: 9", [b"no", b" quota.and the next answer"], False),
        ("Content-Length: 100", [b"no quota."], True),
        ("Transfer-Encoding: chunked", [b"3\r\nno \r\n6;x=y\r\nqu", b"ota.\r\n0\r\n\r\n"], False),
        ("Transfer-Encoding: Chunked", [b"9\r\nno quota.\r\n"], True),
        ("Transfer-Encoding: chunked", [b"9\r\nno quota.\r\nnonsense\r\n"], False),
        ("Connection: close", [b"no", b" quota."], True),
        ("Content-Length: many", [b"no quota."], True),
        ("Content-Encoding: identity", [b"no quota."], True),
    ],
)
@pytest.mark.parametrize("already", [True, False])
def test_however_the_body_is_framed(head: str, pieces: List[bytes], ends: bool, already: bool) -> None:
    received, later = (pieces[0], pieces[1:]) if already else (b"", pieces)
    assert str(refused(f"403 No\n{head}", received, *later, ends=ends)) == "refused: HTTP 403 No: no quota."


@pytest.mark.parametrize("head", ["Content-Encoding: gzip", "Transfer-Encoding: gzip, chunked"])
def test_what_would_have_to_be_decoded_is_not_shown(head: str) -> None:
    assert str(refused(f"403 No\n{head}", b"9\r\nno quota.\r\n0\r\n\r\n", ends=True)) == "refused: HTTP 403 No"


class Watch(SelectOpener):
    """A clock that only waiting moves; nothing ever comes."""

    def __init__(self, piece_after: float = 0.0) -> None:
        super().__init__()
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, sock: socket.socket, read: bool, write: bool, seconds: float = float("inf")) -> bool:
        self.time += seconds
        return False


@pytest.mark.parametrize(
    ("head", "most"), [("Content-Length: 9", 1.0), ("Transfer-Encoding: chunked", 1.0), ("X: y", 0.25)]
)
def test_a_body_that_does_not_come_costs_a_moment(head: str, most: float) -> None:
    watch = Watch()
    assert str(refused(f"403 No\n{head}", b"", opener=watch)) == "refused: HTTP 403 No"
    assert watch.time == most


@pytest.mark.parametrize(
    "error", [OpeningInterrupted("too late"), OpeningFailed("too late"), ConnectionResetError("gone")]
)
def test_a_refusal_stays_one_whatever_happens_to_its_body(error: Exception) -> None:
    class Ending(SelectOpener):
        def wait(self, *_: Any) -> bool:
            raise error

    assert str(refused("403 No\nContent-Length: 9", b"no", opener=Ending())) == "refused: HTTP 403 No: no"


def test_an_endless_body_is_not_read_to_its_end() -> None:
    start = time.monotonic()
    assert "xxx" in str(refused("403 No\nContent-Length: 99999999999", b"x" * 70_000))
    assert time.monotonic() - start < PATIENCE


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-7"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "9" * 30}, 1e30),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:47 GMT", "date": DATE}, 10.0),
        ({"retry-after": "Sunday, 06-Nov-94 08:49:47 GMT", "date": DATE}, 10.0),
        ({"retry-after": "Sun Nov  6 08:49:47 1994", "date": DATE}, 10.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:27 GMT", "date": DATE}, 0.0),
        ({"retry-after": DATE}, 0.0),
        ({"retry-after": DATE, "date": "yesterday"}, 0.0),
        *[
            ({"retry-after": nonsense}, None)
            for nonsense in ("soon", "", "7 s", "inf", "nan", "1e5", "Sun, 99 Foo 1994")
        ],
    ],
)
def test_when_to_come_again(headers: Dict[str, str], seconds: Optional[float]) -> None:
    assert retry_after(headers) == seconds


def test_a_date_without_another_is_held_against_the_clock() -> None:
    at = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    seconds = retry_after({"retry-after": at})
    assert seconds is not None
    assert 100 - PATIENCE < seconds <= 100


@pytest.mark.parametrize(("status", "seconds"), [(429, 7.0), (503, 7.0), (403, None), (301, None)])
def test_only_a_refusal_for_a_while_asks_to_come_again(status: int, seconds: Optional[float]) -> None:
    failure = refused(f"{status} X\nRetry-After: 7\nContent-Length: 0")
    assert (failure.status, failure.retry_after, failure.retryable) == (status, seconds, seconds is not None)
    assert ("asks to wait for 7 s" in str(failure)) == failure.retryable
