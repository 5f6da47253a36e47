"""Secrets stay in: they are looked for in everything that is logged, shown and raised."""

from __future__ import annotations

import contextlib
import logging
import threading
import traceback
from typing import Any, Callable, Iterator, List, Set

import pytest

import runtimeuse_sync
from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    ArtifactUploadResult,
    QueryOptions,
    RuntimeConnectionError,
    RuntimeUseClient,
    RuntimeUseError,
)
from runtimeuse_sync._wire.redaction import MAX_EARLIER_SECRETS

from ..support.builders import CONFIRM, Serve, answer, answer_all, client_of, end, error, text, until_end, upload
from ..support.marked_secrets import (
    MARK,
    PASSWORD,
    USER,
    assert_silent,
    command,
    command_options,
    mark,
    marked_client,
    nothing_shown,
    query_options,
    repeating,
)
from ..support.servers import CLOSE, PATIENCE, Peer

FULL_ERROR = error(
    f"postgres://{mark('agent-env')} {mark('redact')} {mark('command-env')} https://s3/x.zip?sig={mark('download')}",
    stack=mark("redact"),
    **{mark("redact"): [mark("command-env")]},
)


@pytest.mark.parametrize("in_session", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_a_call_of_each_kind(serve: Serve, capfd: pytest.CaptureFixture[str], in_session: bool, fails: bool) -> None:
    server = serve(repeating(FULL_ERROR if fails else None))
    logger = logging.getLogger("mine")
    with nothing_shown(capfd) as watch:
        client = marked_client(server.port)
        calls: List[Callable[[Any], Any]] = [
            lambda caller: caller.query("hi", query_options(logger=logger)),
            lambda caller: caller.execute_commands([command()], command_options(logger=logger)),
        ]
        if fails:
            calls[1] = calls[0]
        for call in calls:
            with contextlib.ExitStack() as stack:
                caller: Any = stack.enter_context(client.session()) if in_session else client
                if fails:
                    with pytest.raises(RuntimeUseError) as caught:
                        call(caller)
                    watch.raised(caught.value)
                else:
                    assert MARK not in repr(call(caller))
                assert MARK not in repr(caller)
    headers = server.peers[0].headers
    assert (headers["authorization"], headers["x-api-key"]) == (f"Bearer {mark('bearer')}", mark("key"))
    assert server.peers[0].path == f"/v1/{mark('path')}?token={mark('token')}&b=1"


def sending(peer: Peer, message: Any) -> None:
    peer.accept()
    peer.expect("invocation_message")
    peer.send(message)
    end(peer)


@pytest.mark.parametrize(
    "script",
    [
        lambda peer: peer.refuse("403 Forbidden"),
        lambda peer: peer.refuse(f"403 No {mark('token')} for {USER}:{PASSWORD}"),
        lambda peer: peer.refuse(f"403 Unknown {mark('bearer')} and {mark('key')}"),
        lambda peer: peer.refuse("301 Moved", f"Location: ws://127.0.0.1:1/?token={mark('token')}"),
        lambda peer: peer.accept(f"Sec-WebSocket-Protocol: {mark('token')}"),
        lambda peer: (peer.accept(), peer.close(1008, f"bad token {mark('token')}")),
        lambda peer: (peer.accept(), peer.close(1008, f"{mark('redact')} {mark('bearer')}")),
        lambda peer: (peer.accept(), peer.frame(CLOSE, b"\x03\xf0\xff" + MARK.encode())),
        lambda peer: (peer.accept(), peer.frame(0x1, b'\xff"' + MARK.encode())),
        lambda peer: sending(peer, {"message_type": "result_message", "data": MARK}),
        lambda peer: sending(peer, {"message_type": "result_message", "data": {"type": MARK}}),
        lambda peer: (peer.accept(), peer.send({"message_type": MARK}), peer.cut()),
    ],
)
def test_what_the_other_side_repeats(
    serve: Serve, capfd: pytest.CaptureFixture[str], script: Callable[[Peer], None]
) -> None:
    server = serve(script)
    with nothing_shown(capfd) as watch:
        client = marked_client(server.port)
        with pytest.raises(RuntimeUseError) as caught:
            client.query("hi", query_options())
        watch.raised(caught.value)


def test_a_secret_that_every_call_of_a_long_session_tells(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message.get("user_prompt") == "last":
                peer.send(error(f"left behind: {MARK} and old-0"))
            else:
                answer(peer, message)

    with client_of(serve(script)).session() as session:
        for number in range(MAX_EARLIER_SECRETS):
            session.query("hi", secrets_to_redact=[MARK, f"old-{number}"], timeout=15)
        with pytest.raises(AgentRuntimeError) as caught:
            session.query("last", timeout=15)
    assert_silent(caught.value)
    assert "old-0" in str(caught.value), "no more than that many are remembered"


def test_a_secret_in_the_source_id(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve(repeating(None))
    with nothing_shown(capfd):
        client_of(server).query("hi", query_options(source_id=f"job of {mark('redact')}"))
    assert "source_id=job of [REDACTED]" in caplog.text


def test_a_secret_in_the_path_of_an_artifact(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    failed = threading.Event()

    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.send(upload(f"/out/{mark('redact')}"))
        assert failed.wait(PATIENCE)
        peer.send(CONFIRM)

    def fail(_: Any) -> ArtifactUploadResult:
        failed.set()
        raise OSError("the disk is full")

    with nothing_shown(capfd) as watch:
        with pytest.raises(ArtifactUploadError) as caught:
            with client_of(serve(script)).session() as session:
                session.query(
                    "hi", secrets_to_redact=[mark("redact")], artifacts_dir="/out", on_artifact_upload_request=fail
                )
        watch.raised(caught.value)
    assert caught.value.filepaths == [f"/out/{mark('redact')}"]


def test_a_secret_in_a_callbacks_timeout(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(upload(f"/out/{mark('redact')}"))

    release = threading.Event()

    def slow(_: Any) -> ArtifactUploadResult:
        release.wait(PATIENCE)
        return ArtifactUploadResult("https://s3/x", "text/plain")

    with nothing_shown(capfd) as watch:
        with pytest.raises(AgentRuntimeError, match="timed out") as caught:
            client_of(serve(script)).query(
                "hi",
                secrets_to_redact=[mark("redact")],
                artifacts_dir="/out",
                on_artifact_upload_request=slow,
                artifact_upload_callback_timeout=0.05,
                end_session_timeout=0.1,
            )
        release.set()
        watch.raised(caught.value)


def test_secrets_of_earlier_calls_of_a_session(serve: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    """The runtime redacts by the current request's secrets only, and what it says may be about an earlier one's."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(upload("/out/a"))
        peer.expect("artifact_upload_response_message")
        peer.send(text("done"))
        peer.expect("invocation_message")
        peer.send(error(f"not uploaded: ?X-Amz-Signature={mark('presigned')}; {mark('redact')} in .env"))
        answer_all(peer)

    with nothing_shown(capfd) as watch, client_of(serve(script)).session() as session:
        assert session.query("hi", query_options()).text == "done"
        with pytest.raises(AgentRuntimeError, match="not uploaded") as caught:
            session.query("hi")
        watch.raised(caught.value)


@pytest.mark.parametrize(
    ("url", "headers", "repeated"),
    [
        (f"/ws/{mark('in-path')}", {}, f"no {mark('in-path')} here"),
        (f"/?token=a%2F{MARK}&z=1", {}, f"bad token a%2F{MARK}"),
        ("/", {"Cookie": f"sid={MARK}; x=1"}, f"session {MARK} expired"),
        ("/", {"User-Agent": MARK}, f"{MARK} is not welcome"),
    ],
)
def test_what_a_server_repeats_of_the_way_is_masked(serve: Serve, url: str, headers: Any, repeated: str) -> None:
    server = serve(lambda peer: peer.refuse(f"403 {repeated}"))
    client = RuntimeUseClient(f"ws://127.0.0.1:{server.port}{url}", model="m", headers=headers)
    with pytest.raises(RuntimeConnectionError) as caught:
        client.query("hi")
    assert caught.value.status == 403
    assert MARK not in str(caught.value)


def test_a_presigned_url_that_the_runtime_repeats_is_masked(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(upload("/out/a"))
        url = peer.expect("artifact_upload_response_message")["presigned_url"]
        peer.send(error(f"PUT {url} failed", cause=url))
        peer.expect("end_session_message")
        end_of_session(peer)

    def end_of_session(peer: Peer) -> None:
        peer.send({"message_type": "end_session_confirm_message"})

    with pytest.raises(RuntimeUseError) as caught:
        client_of(serve(script)).query(
            "hi",
            artifacts_dirs=["/out"],
            on_artifact_upload_request=lambda _: ArtifactUploadResult(f"https://s.test/a?X-Sig={MARK}", "text/plain"),
        )
    assert MARK not in str(caught.value)
    assert "failed" in str(caught.value)


def test_a_secret_with_a_quote_in_it_is_masked() -> None:
    options = QueryOptions(secrets_to_redact=["it's-a-secret"], system_prompt='say "it\'s-a-secret"')
    assert "a-secret" not in repr(options)


def test_the_text_of_an_error_with_odd_metadata_is_not_lost(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send({"message_type": "error_message", "error": "disk full", "metadata": ["x"]})

    with pytest.raises(RuntimeUseError, match="disk full"):
        client_of(serve(script)).query("hi")


def test_half_a_client_can_be_shown() -> None:
    half = RuntimeUseClient.__new__(RuntimeUseClient)
    assert "RuntimeUseClient" in repr(half)


@pytest.mark.parametrize(
    "url",
    [
        f"ws://user:{MARK}#x@host/",
        f"ws://user:{MARK}/x@host/",
        f"ws://user:{MARK}?x@host/",
        f"ws://user:pass@[{MARK}/",
        f"ftp://host/?token={MARK}",
        f"ws://host/?token={MARK} x",
        f"ws:///?token={MARK}",
        f"ws://host:99999/?token={MARK}",
    ],
)
def test_an_invalid_url(url: str) -> None:
    with pytest.raises(ValueError, match="ws_url") as caught:
        RuntimeUseClient(url)
    assert_silent(caught.value)


@pytest.mark.parametrize(
    "url",
    [f"http://user:{MARK}{end}" for end in ("#x@host/", "/x@host/", "?x@host/")] + [f"ftp://user:{MARK}@host"],
)
def test_an_invalid_proxy_url(url: str) -> None:
    with pytest.raises(ValueError, match="proxy") as caught:
        RuntimeUseClient("ws://host", proxy=url)
    assert_silent(caught.value)


def test_invalid_values() -> None:
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


def test_connecting_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with nothing_shown(capfd) as watch:
        client = marked_client(1, connect_timeout=0.2)
        for call in (lambda: client.query("hi", query_options()), lambda: client.wait_until_ready(0.2)):
            with pytest.raises(RuntimeUseError) as caught:
                call()
            watch.raised(caught.value)
        proxied = marked_client(1, proxy=f"http://{MARK}:{MARK}@127.0.0.1:1", connect_timeout=0.2)
        with pytest.raises(RuntimeUseError) as caught:
            proxied.query("hi", query_options())
        watch.raised(caught.value)


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
    server = serve(repeating(None))
    client = marked_client(server.port)
    with client.session() as session:
        run = session.stream_commands([command()], command_options())
        with run:
            next(run)
            shown = [repr(each) for root in (client, session, run) for each in objects_of_the_package(root)]
            _ = run.result
    assert len(shown) > 10
    assert [text for text in shown if MARK in text] == []


def test_locals_of_a_failure_show_no_secret(serve: Serve) -> None:
    server = serve(lambda peer: peer.refuse("403 Forbidden"))
    client = marked_client(server.port)
    options = query_options()
    with pytest.raises(RuntimeUseError) as caught:
        client.query("hi", options)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    # This test's own frame is the first; it holds what it likes.
    for frame in list(shown.stack)[1:]:
        assert MARK not in str(frame.locals), (frame.filename, frame.lineno)
