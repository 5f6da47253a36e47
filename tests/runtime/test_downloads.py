from __future__ import annotations

import io
import os
import random
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

from runtimeuse_sync.runtime.downloads.archives import extract
from runtimeuse_sync.runtime.downloads.download import file_name
from runtimeuse_sync.runtime.http_transfer import TransferAbortedError

from ..support.servers import PATIENCE
from ..support.storage import Storage
from .conftest import Connect
from .wire import CANCELLED, Wire


def archive(*members: Tuple[str, bytes, int], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Returns a zip archive of members, each with name, content and Unix mode."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as opened:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            opened.writestr(info, content, method)
    return buffer.getvalue()


def fetch(wire: Wire, *urls: str, into: str = "in", command: str = "true") -> List[Dict[str, Any]]:
    items = [{"download_url": url, "working_dir": into} for url in urls]
    return wire.commands(command, pre_execution_downloadables=items)


def test_files_are_in_place_before_the_work_begins(wire: Wire, storage: Storage, tmp_path: Path) -> None:
    storage.files = {"/a/data%20file.txt": b"data", "/tool.zip": archive(("bin/tool", b"#!/bin/sh\necho ran\n", 0o755))}
    urls = [storage.url + "/a/data%20file.txt?signature=x", storage.url + "/tool.zip"]
    messages = fetch(wire, *urls, command="cat 'in/data file.txt'; in/bin/tool")
    assert messages[-1]["results"][0]["stdout"] == "dataran\n"
    assert sorted(os.listdir(tmp_path / "in")) == ["bin", "data file.txt"]
    # Whatever whoever runs the tests lets others do with new files, this one is like any other.
    (tmp_path / "any other").touch()
    mode, usual = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("in/data file.txt", "any other"))
    assert oct(mode) == oct(usual)


def test_downloads_for_an_agent(talk: Connect, storage: Storage, tmp_path: Path) -> None:
    storage.files["/x.txt"] = b"for the agent"
    items = [{"download_url": storage.url + "/x.txt", "working_dir": str(tmp_path / "abs")}]
    assert talk().query("cat abs/x.txt", pre_agent_downloadables=items)[-1]["data"]["text"] == "for the agent"


def test_a_missing_file_ends_the_request(wire: Wire, storage: Storage, tmp_path: Path) -> None:
    [answer] = fetch(wire, storage.url + "/none.txt")
    assert answer["error"] == "Download failed: 404 Not Found"
    assert answer["metadata"]["error_name"] == "Error"
    assert os.listdir(tmp_path / "in") == []
    wire.assert_idle()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x?sig=hidden", "ftp://host/x?sig=hidden", "x", "http://h/?sig=hidden"]
)
def test_what_cannot_be_fetched_is_said_without_the_signature(wire: Wire, url: str) -> None:
    [answer] = fetch(wire, url)
    assert answer["error"].startswith("Download failed: ")
    assert "hidden" not in str(answer)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/b.txt?x=/c", "b.txt"),
        ("http://h/a%20b", "a b"),
        ("http://h/%C3%A9", "é"),
        ("http://h/..%2f..%2fetc", None),
        ("http://h/%2e%2e", None),
        ("http://h/a/", None),
        ("http://h", None),
        ("http://h/a%00", None),
    ],
)
def test_the_name_is_the_paths_last_segment(url: str, name: Optional[str]) -> None:
    if name is not None:
        assert file_name(url) == name
        return
    with pytest.raises(Exception, match="no usable file name"):
        file_name(url)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil"])
def test_an_archive_does_not_reach_outside(wire: Wire, storage: Storage, tmp_path: Path, name: str) -> None:
    storage.files["/a.zip"] = archive(("good", b"x", 0o644), (name, b"x", 0o644))
    [answer] = fetch(wire, storage.url + "/a.zip", into="in/deep")
    assert "leads outside" in answer["error"]
    assert os.listdir(tmp_path / "in" / "deep") == []
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "in" / "evil").exists()


@pytest.mark.parametrize(
    "members",
    [
        [("link", b"/etc", stat.S_IFLNK | 0o777)],
        [("link", b"..", stat.S_IFLNK | 0o777), ("link/evil", b"x", 0o644)],
        # Inside, until the second one comes.
        [("link", b"later/..", stat.S_IFLNK | 0o777), ("later", b".", stat.S_IFLNK | 0o777)],
    ],
)
def test_nor_do_its_links(wire: Wire, storage: Storage, tmp_path: Path, members: Any) -> None:
    storage.files["/a.zip"] = archive(*members)
    [answer] = fetch(wire, storage.url + "/a.zip")
    assert "leads outside" in answer["error"]
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "in" / "link").is_symlink()


def test_links_permissions_and_directories_are_kept(wire: Wire, storage: Storage, tmp_path: Path) -> None:
    storage.files["/a.ZIP"] = archive(
        ("d/", b"", stat.S_IFDIR | 0o750),
        ("d/run", b"x", stat.S_IFREG | 0o4755),
        ("d/read-only", b"x", stat.S_IFREG | 0o444),
        ("link", b"d/run", stat.S_IFLNK | 0o777),
        ("plain", b"x", 0),
    )
    for _ in range(2):  # the second one over the first
        assert fetch(wire, storage.url + "/a.ZIP")[-1]["results"][0]["exit_code"] == 0
    root = tmp_path / "in"
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o750
    assert stat.S_IMODE((root / "d" / "run").stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "d" / "read-only").stat().st_mode) == 0o444
    assert os.readlink(root / "link") == "d/run"
    assert sorted(os.listdir(root)) == ["d", "link", "plain"]


def test_a_damaged_archive_is_an_error(wire: Wire, storage: Storage, tmp_path: Path) -> None:
    storage.files["/a.zip"] = b"not a zip"
    assert "cannot be extracted" in fetch(wire, storage.url + "/a.zip")[0]["error"]
    assert os.listdir(tmp_path / "in") == []


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_nor_is_a_damaged_member_more_than_an_error(wire: Wire, storage: Storage, method: int) -> None:
    # Always the same, so that the damage is, too.
    content = bytes(random.Random(1).choices(range(256), k=5000))
    whole = archive(("a", content, 0o644), method=method)
    for damaged in (whole.replace(whole[1000:1100], bytes(100)), whole[:2000] + whole[2500:]):
        storage.files["/a.zip"] = damaged
        [answer] = fetch(wire, storage.url + "/a.zip")
        assert answer["error"].startswith("Download failed: the archive cannot be extracted (")


def test_a_file_does_not_replace_a_directory(wire: Wire, storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "in" / "data").mkdir(parents=True)
    (tmp_path / "in" / "data" / "kept").write_text("x")
    storage.files["/a.zip"] = archive(("data", b"x", 0o644))
    assert "in place of a directory: 'data'" in fetch(wire, storage.url + "/a.zip")[0]["error"]
    assert (tmp_path / "in" / "data" / "kept").read_text() == "x"


def test_an_extraction_can_be_cancelled(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archive(*[(f"{number}", b"x", 0o644) for number in range(10)]))
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 5:
            raise TransferAbortedError

    with pytest.raises(TransferAbortedError):
        extract(str(tmp_path / "a.zip"), str(tmp_path / "out"), check, 1000)
    assert 0 < len(os.listdir(tmp_path / "out")) < 5


@pytest.mark.parametrize("stall", ["before the answer", "within the body"])
def test_a_download_can_be_cancelled(talk: Connect, storage: Storage, tmp_path: Path, stall: str) -> None:
    # Far longer than the test has patience: nothing but the cancel ends it.
    wire = talk(http_timeout=600.0)
    waiting, let_go = threading.Event(), threading.Event()

    def handler(request: BaseHTTPRequestHandler) -> None:
        if stall == "within the body":
            request.send_response(200)
            request.send_header("Content-Length", "1000000")
            request.end_headers()
            request.wfile.write(b"x" * 1000)
        waiting.set()
        let_go.wait(PATIENCE)

    storage.handlers["/slow"] = handler
    items = [{"download_url": storage.url + "/slow", "working_dir": "in"}]
    wire.send_commands("true", pre_execution_downloadables=items)
    assert waiting.wait(PATIENCE)
    wire.cancel()
    assert wire.receive() == CANCELLED
    assert os.listdir(tmp_path / "in") == []
    let_go.set()


def test_large_files_come_whole(wire: Wire, storage: Storage, tmp_path: Path) -> None:
    storage.files["/big"] = os.urandom(3_000_000)
    fetch(wire, storage.url + "/big")
    assert (tmp_path / "in" / "big").read_bytes() == storage.files["/big"]


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_too_large_is_not_fetched(talk: Connect, storage: Storage, tmp_path: Path, announced: bool) -> None:
    wire = talk(max_download_size=100_000)
    gone = threading.Event()

    def handler(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        if announced:
            request.send_header("Content-Length", "1000000000")
        request.end_headers()
        try:
            while True:
                request.wfile.write(b"x" * 10_000)
        except OSError:
            gone.set()

    storage.handlers["/large"] = handler
    [answer] = fetch(wire, storage.url + "/large")
    assert answer["error"] == "Download failed: larger than the limit of 100000 bytes"
    assert os.listdir(tmp_path / "in") == []
    assert gone.wait(PATIENCE)
    storage.files["/fits"] = b"x" * 100_000
    assert fetch(wire, storage.url + "/fits")[-1]["results"][0]["exit_code"] == 0


def test_an_archive_that_holds_too_much_is_not_extracted(talk: Connect, storage: Storage, tmp_path: Path) -> None:
    wire = talk(max_download_size=100_000)
    storage.files["/bomb.zip"] = archive(*[(f"{number}", bytes(60_000), 0o644) for number in range(2)])
    assert len(storage.files["/bomb.zip"]) < 1000
    [answer] = fetch(wire, storage.url + "/bomb.zip")
    assert "exceeds the limit of 100000 bytes" in answer["error"]
    assert os.listdir(tmp_path / "in") == []


def test_nor_one_that_lies_about_it(talk: Connect, storage: Storage, tmp_path: Path) -> None:
    wire = talk(max_download_size=1_000_000)
    honest = archive(("zeros", bytes(50_000_000), 0o644))
    # In the local and in the central header.
    storage.files["/bomb.zip"] = honest.replace((50_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    [answer] = fetch(wire, storage.url + "/bomb.zip")
    assert answer["error"].startswith("Download failed: the archive ")
    assert sum(path.stat().st_size for path in (tmp_path / "in").iterdir()) <= 1_000_000
