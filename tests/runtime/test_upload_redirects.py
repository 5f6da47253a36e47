"""Uploads whose storage sends them somewhere else."""

from __future__ import annotations

import logging

import pytest

from ..support.storage import Storage
from .conftest import Connect
from .wire import Wire

#: More than is read at once.
CONTENT = b"content\n" * 50_000


@pytest.fixture
def wire(talk: Connect) -> Wire:
    return talk(artifact_settle=0.05, end_session_delay=0.05)


def upload(wire: Wire, url: str, fails: str = "") -> None:
    """Has one file uploaded; returns when that is done with, well, or not, and why."""
    wire.commands("true", artifacts_dirs=["out"])
    wire.send_commands("yes content | head -n 50000 > file; mv file out")
    wire.answer(wire.receive_until("artifact_upload_request_message")[-1], url, "text/css")
    if fails:
        assert wire.end_unconfirmed() == ([], f"1 artifact was not uploaded: file ({fails})")
    else:
        wire.end()


@pytest.mark.parametrize("status", [307, 308])
def test_the_file_is_sent_again_where_a_redirect_says(
    wire: Wire, storage: Storage, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    storage.answers = [status, status]
    elsewhere = storage.url.replace("127.0.0.1", "localhost") + "/third"
    storage.redirects = {"/first?sig=x": "/second", "/second": elsewhere}
    with caplog.at_level(logging.INFO):
        upload(wire, storage.url.replace("//", "//user:word@") + "/first?sig=x")
    assert [put.path for put in storage.received] == ["/first?sig=x", "/second", "/third"]
    for put in storage.received:
        assert put.body == CONTENT
        assert (put.headers["Content-Type"], put.headers["Content-Length"]) == ("text/css", str(len(CONTENT)))
    assert [put.headers.get("Authorization") for put in storage.received] == ["Basic dXNlcjp3b3Jk"] * 2 + [None]
    assert "Uploaded" in caplog.text


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_to_a_page_is_a_failure(
    wire: Wire, storage: Storage, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    storage.answers = [status]
    storage.redirects = {"/file?sig=x": "/login"}
    storage.files["/login"] = b"Who are you?"
    with caplog.at_level(logging.INFO):
        upload(wire, storage.url + "/file?sig=x", fails=f"HTTP status {status}")
    assert f"/file?[REDACTED] failed: HTTP status {status}" in caplog.text
    assert "Uploaded" not in caplog.text
    assert len(storage.received) == 1


def test_redirects_without_end_are_a_failure(wire: Wire, storage: Storage, caplog: pytest.LogCaptureFixture) -> None:
    storage.answers = [307] * 50
    storage.redirects = {"/file": "/file"}
    upload(wire, storage.url + "/file", fails="TooManyRedirects")
    assert "/file failed: TooManyRedirects" in caplog.text
    assert len(storage.received) == 11


def test_after_a_redirect_a_failed_upload_begins_anew(wire: Wire, storage: Storage) -> None:
    storage.answers = [307, 503]
    storage.redirects = {"/first": "/second"}
    upload(wire, storage.url + "/first")
    assert [put.path for put in storage.received] == ["/first", "/second", "/first"]
    assert {put.body for put in storage.received} == {CONTENT}
