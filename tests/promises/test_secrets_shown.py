"""Secrets stay in: refused values, failing connections, and the `repr` of objects."""

from __future__ import annotations

import traceback
from typing import Any, Iterator, Set

import pytest

import runtimeuse_sync
from runtimeuse_sync import RuntimeUseClient, RuntimeUseError

from ..support.builders import Serve
from .marks import (
    COMMAND,
    HEADERS,
    MARK,
    assert_silent,
    command_options,
    nothing_told,
    query_options,
    secret_url,
    telling,
)


@pytest.mark.parametrize(
    "url",
    [
        f"ws://user:{MARK}#x@host/",
        f"ws://user:{MARK}/x@host/",
        f"ws://user:{MARK}?x@host/",
        f"ws://user:pass@[{MARK}/",
        f"http://host/?token={MARK}",
        f"ws://host/?token={MARK} x",
        f"ws:///?token={MARK}",
        f"ws://host:99999/?token={MARK}",
    ],
)
def test_a_url_that_cannot_be(url: str) -> None:
    with pytest.raises(ValueError, match="ws_url") as caught:
        RuntimeUseClient(url)
    assert_silent(caught.value)


@pytest.mark.parametrize(
    "url",
    [f"http://user:{MARK}{end}" for end in ("#x@host/", "/x@host/", "?x@host/")] + [f"ftp://user:{MARK}@host"],
)
def test_a_proxy_url_that_cannot_be(url: str) -> None:
    with pytest.raises(ValueError, match="proxy") as caught:
        RuntimeUseClient("ws://host", proxy=url)
    assert_silent(caught.value)


def test_values_that_cannot_be() -> None:
    client = RuntimeUseClient("ws://127.0.0.1:1", model="m")
    for options in (
        {"agent_env": {"A": f"{MARK}\0"}},
        {"agent_env": [MARK]},
        {"secrets_to_redact": MARK},
        {"secrets_to_redact": [MARK, 1]},
        {"output_format_json_schema_str": f"{{{MARK}"},
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            client.query("hi", **options)
        assert_silent(caught.value)
    with pytest.raises(ValueError, match="headers") as caught:
        RuntimeUseClient("ws://host", headers={"A": f"{MARK}\r\n"})
    assert_silent(caught.value)


def test_connecting_fails(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with nothing_told(caplog, capfd) as told:
        client = RuntimeUseClient(secret_url(1), headers=HEADERS, connect_timeout=0.2)
        for call in (lambda: client.query("hi", query_options()), lambda: client.wait_until_ready(0.2)):
            with pytest.raises(RuntimeUseError) as caught:
                call()
            told.append(caught.value)
        proxied = RuntimeUseClient(secret_url(1), proxy=f"http://{MARK}:{MARK}@127.0.0.1:1", connect_timeout=0.2)
        with pytest.raises(RuntimeUseError) as caught:
            proxied.query("hi", query_options())
        told.append(caught.value)


def objects_of_the_package(root: Any) -> Iterator[Any]:
    """Yields everything of this package that can be reached from an object through attributes and containers."""
    seen: Set[int] = set()
    queue = [root]
    while queue:
        each = queue.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if type(each).__module__.startswith(runtimeuse_sync.__name__):
            yield each
            names = [name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ())]
            queue += [getattr(each, name, None) for name in names]
            queue += list(getattr(each, "__dict__", {}).values())
        if isinstance(each, (list, tuple, set)):
            queue += list(each)


def test_no_object_shows_a_secret(serve: Serve) -> None:
    """A debugger, pytest, or an error tracker shows the `repr` of whatever a traceback's frames hold."""
    server = serve(telling(None))
    client = RuntimeUseClient(secret_url(server.port), headers=HEADERS)
    with client.session() as session:
        run = session.stream_commands([COMMAND], command_options())
        with run:
            next(run)
            shown = [repr(each) for root in (client, session, run) for each in objects_of_the_package(root)]
            _ = run.result
    assert len(shown) > 10
    assert [text for text in shown if MARK in text] == []


def test_locals_of_a_failure_show_no_secret(serve: Serve) -> None:
    server = serve(lambda peer: peer.refuse("403 Forbidden"))
    client = RuntimeUseClient(secret_url(server.port), headers=HEADERS)
    options = query_options()
    with pytest.raises(RuntimeUseError) as caught:
        client.query("hi", options)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    # This test's own frame is the first; it holds what it likes.
    for frame in list(shown.stack)[1:]:
        assert MARK not in str(frame.locals), (frame.filename, frame.lineno)
