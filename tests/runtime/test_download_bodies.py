"""What ends early is no download, whatever the HTTP library says of it."""

from __future__ import annotations

import gzip
import itertools
import os
import random
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, List, Tuple

import pytest
import urllib3

from ..support.storage import Answer, Storage
from .conftest import Connect
from .test_downloads import archive, fetch
from .wire import Wire


@pytest.fixture(params=["as it is", "careless"])
def http(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """`urllib3` as it is installed, and one that does not look at the length, as 1.26 did not."""
    if request.param == "careless":
        made = urllib3.HTTPResponse.__init__

        def careless(self: Any, *arguments: Any, **options: Any) -> None:
            made(self, *arguments, **{**options, "enforce_content_length": False})

        monkeypatch.setattr(urllib3.HTTPResponse, "__init__", careless)


def answers(body: bytes, *headers: Tuple[str, str]) -> Answer:
    """Returns what answers with just these headers and bytes, and closes the connection."""

    def handler(request: BaseHTTPRequestHandler) -> None:
        # Without a length the body ends with the connection.
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        for name, value in headers:
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
        request.close_connection = True

    return handler


def length(size: int) -> Tuple[str, str]:
    return ("Content-Length", str(size))


GZIP, CHUNKED = ("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked")
#: The same in each process that collects these tests.
DATA = random.Random(1).getrandbits(8 * 50_000).to_bytes(50_000, "big") + bytes(3_000_000)
PACKED = gzip.compress(DATA)


@pytest.mark.usefixtures("http")
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"x" * 100, [length(1000)]),
        (b"", [length(1000)]),
        (b"x" * 100, [length(100), length(1000)]),
        (PACKED[:-1], [GZIP, length(len(PACKED))]),
        (PACKED[:-1], [GZIP, length(len(PACKED) - 1)]),
        (PACKED[:20_000], [GZIP]),
        (b"64\r\n" + b"x" * 99, [CHUNKED]),
        (b"64\r\n" + b"x" * 100 + b"\r\n", [CHUNKED]),
        (b"", [CHUNKED]),
        (b"no gzip", [GZIP, length(7)]),
        (b"%x\r\n%b\r\n0\r\n\r\n" % (len(PACKED) - 9, PACKED[:-9]), [CHUNKED, GZIP]),
    ],
    ids=itertools.count(),
)
@pytest.mark.parametrize("name", ["file", "file.zip"])
def test_a_body_that_is_not_whole(
    wire: Wire, storage: Storage, tmp_path: Path, body: bytes, headers: List[Any], name: str
) -> None:
    storage.handlers[f"/{name}"] = answers(body, *headers)
    [answer] = fetch(wire, f"{storage.url}/{name}?signature=hidden")
    assert answer["error"].startswith("Download failed: ")
    assert "hidden" not in str(answer)
    assert os.listdir(tmp_path / "in") == []
    wire.assert_idle()


@pytest.mark.usefixtures("http")
@pytest.mark.parametrize(
    ("body", "headers", "data"),
    [
        (b"x" * 100, [length(100)], b"x" * 100),
        (b"x" * 100, [], b"x" * 100),
        (b"", [length(0)], b""),
        (b"", [GZIP, length(0)], b""),
        (b"x" * 100, [length(100), length(100)], b"x" * 100),
        (PACKED, [GZIP, length(len(PACKED))], DATA),
        (PACKED + PACKED, [GZIP], DATA + DATA),
        # Padded, as from tapes; the second time with more than is read at once.
        (PACKED + bytes(8), [GZIP, length(len(PACKED) + 8)], DATA),
        (PACKED + bytes(300_000) + PACKED + bytes(300_000), [GZIP], DATA + DATA),
        (b"%x\r\n%b\r\n0\r\n\r\n" % (len(PACKED), PACKED), [CHUNKED, GZIP], DATA),
        # The chunks are what counts where there are both.
        (b"3\r\nabc\r\n0\r\n\r\n", [CHUNKED, length(1000)], b"abc"),
    ],
    ids=itertools.count(),
)
def test_a_body_that_is(
    wire: Wire, storage: Storage, tmp_path: Path, body: bytes, headers: List[Any], data: bytes
) -> None:
    storage.handlers["/file"] = answers(body, *headers)
    assert fetch(wire, storage.url + "/file")[-1]["results"][0]["exit_code"] == 0
    assert (tmp_path / "in" / "file").read_bytes() == data


def test_nothing_compressed_is_asked_for(wire: Wire, storage: Storage) -> None:
    asked: List[Any] = []

    def handler(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.headers["Accept-Encoding"])
        answers(b"x", length(1))(request)

    storage.handlers["/file"] = handler
    fetch(wire, storage.url + "/file")
    assert asked == ["identity"]


def test_what_is_compressed_keeps_to_the_limit(talk: Connect, storage: Storage, tmp_path: Path) -> None:
    wire = talk(max_download_size=1_000_000)
    packed = gzip.compress(bytes(50_000_000))
    storage.handlers["/file"] = answers(packed, GZIP, length(len(packed)))
    [answer] = fetch(wire, storage.url + "/file")
    assert answer["error"] == "Download failed: larger than the limit of 1000000 bytes"
    assert os.listdir(tmp_path / "in") == []


def test_a_whole_archive_in_chunks(wire: Wire, storage: Storage, tmp_path: Path) -> None:
    packed = archive(("a", b"x", 0o644))
    storage.handlers["/file.zip"] = answers(b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed), CHUNKED)
    fetch(wire, storage.url + "/file.zip")
    assert os.listdir(tmp_path / "in") == ["a"]
