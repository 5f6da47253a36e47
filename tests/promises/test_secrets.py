"""Secrets stay in: they are looked for in everything that is logged, shown and raised."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any, Callable, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    ArtifactUploadResult,
    RuntimeUseClient,
    RuntimeUseError,
)
from runtimeuse_sync._session.channel import MAX_EARLIER_SECRETS

from ..support.builders import CONFIRM, Serve, answer, answer_all, end, error, text, upload
from ..support.servers import CLOSE, PATIENCE, Peer
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

FULL_ERROR = error(
    f"postgres://{MARK}-agent-env {MARK}-redact {MARK}-command-env https://s3/x.zip?sig={MARK}-download",
    stack=f"{MARK}-redact",
    **{f"{MARK}-redact": [f"{MARK}-command-env"]},
)


@pytest.mark.parametrize("in_session", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_a_call_of_each_kind(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], in_session: bool, fails: bool
) -> None:
    server = serve(telling(FULL_ERROR if fails else None))
    logger = logging.getLogger("mine")
    with nothing_told(caplog, capfd) as told:
        client = RuntimeUseClient(secret_url(server.port), headers=HEADERS)
        calls: List[Callable[[Any], Any]] = [
            lambda caller: caller.query("hi", query_options(logger=logger)),
            lambda caller: caller.execute_commands([COMMAND], command_options(logger=logger)),
        ]
        if fails:
            calls[1] = calls[0]
        for call in calls:
            with contextlib.ExitStack() as stack:
                caller: Any = stack.enter_context(client.session()) if in_session else client
                if fails:
                    with pytest.raises(RuntimeUseError) as caught:
                        call(caller)
                    told.append(caught.value)
                else:
                    assert MARK not in repr(call(caller))
                assert MARK not in repr(caller)
    headers = server.peers[0].headers
    assert (headers["authorization"], headers["x-api-key"]) == (f"Bearer {MARK}-header", f"{MARK}-key")
    assert server.peers[0].path == f"/path?token={MARK}-token"


def sending(peer: Peer, message: Any) -> None:
    peer.accept()
    peer.expect("invocation_message")
    peer.send(message)
    end(peer)


@pytest.mark.parametrize(
    "script",
    [
        lambda peer: peer.refuse("403 Forbidden"),
        lambda peer: peer.refuse(f"403 No {MARK}-token for {MARK}-user:{MARK}-password"),
        lambda peer: peer.refuse(f"403 Unknown {MARK}-header and {MARK}-key"),
        lambda peer: peer.refuse("301 Moved", f"Location: ws://127.0.0.1:1/?token={MARK}-token"),
        lambda peer: peer.accept(f"Sec-WebSocket-Protocol: {MARK}-token"),
        lambda peer: (peer.accept(), peer.close(1008, f"bad token {MARK}-token")),
        lambda peer: (peer.accept(), peer.close(1008, f"{MARK}-redact {MARK}-header")),
        lambda peer: (peer.accept(), peer.frame(CLOSE, b"\x03\xf0\xff" + MARK.encode())),
        lambda peer: (peer.accept(), peer.frame(0x1, b'\xff"' + MARK.encode())),
        lambda peer: sending(peer, {"message_type": "result_message", "data": MARK}),
        lambda peer: sending(peer, {"message_type": "result_message", "data": {"type": MARK}}),
        lambda peer: (peer.accept(), peer.send({"message_type": f"{MARK}"}), peer.cut()),
    ],
)
def test_what_the_other_side_repeats(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], script: Callable[[Peer], None]
) -> None:
    server = serve(script)
    with nothing_told(caplog, capfd) as told:
        client = RuntimeUseClient(secret_url(server.port), headers=HEADERS)
        with pytest.raises(RuntimeUseError) as caught:
            client.query("hi", query_options())
        told.append(caught.value)


def test_a_secret_that_every_call_of_a_long_session_tells(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message.get("user_prompt") == "last":
                peer.send(error(f"left behind: {MARK} and old-0"))
            else:
                answer(peer, message)

    with RuntimeUseClient(serve(script).url, model="m").session() as session:
        for number in range(MAX_EARLIER_SECRETS):
            session.query("hi", secrets_to_redact=[MARK, f"old-{number}"], timeout=15)
        with pytest.raises(AgentRuntimeError) as caught:
            session.query("last", timeout=15)
    assert_silent(caught.value)
    assert "old-0" in str(caught.value), "no more than that many are remembered"


def test_a_secret_in_the_source_id(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve(telling(None))
    with nothing_told(caplog, capfd):
        RuntimeUseClient(server.url).query("hi", query_options(source_id=f"job of {MARK}-redact"))
    assert "source_id=job of [REDACTED]" in caplog.text


def test_a_secret_in_the_path_of_an_artifact(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    failed = threading.Event()

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.expect("end_session_message")
        peer.send(upload(f"/out/{MARK}-redact"))
        assert failed.wait(PATIENCE)
        peer.send(CONFIRM)

    def fail(_: Any) -> ArtifactUploadResult:
        failed.set()
        raise OSError("the disk is full")

    with nothing_told(caplog, capfd) as told:
        with pytest.raises(ArtifactUploadError) as caught:
            with RuntimeUseClient(serve(script).url, model="m").session() as session:
                session.query(
                    "hi", secrets_to_redact=[f"{MARK}-redact"], artifacts_dir="/out", on_artifact_upload_request=fail
                )
        told.append(caught.value)
    assert caught.value.filepaths == [f"/out/{MARK}-redact"]


def test_a_secret_in_a_callbacks_timeout(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(upload(f"/out/{MARK}-redact"))

    release = threading.Event()

    def slow(_: Any) -> ArtifactUploadResult:
        release.wait(PATIENCE)
        return ArtifactUploadResult("https://s3/x", "text/plain")

    with nothing_told(caplog, capfd) as told:
        with pytest.raises(AgentRuntimeError, match="timed out") as caught:
            RuntimeUseClient(serve(script).url, model="m").query(
                "hi",
                secrets_to_redact=[f"{MARK}-redact"],
                artifacts_dir="/out",
                on_artifact_upload_request=slow,
                artifact_upload_callback_timeout=0.05,
                end_session_timeout=0.1,
            )
        release.set()
        told.append(caught.value)


def test_secrets_of_earlier_calls_of_a_session(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The runtime redacts by the current request's secrets only, and what it says may be about an earlier one's."""

    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(upload("/out/a"))
        peer.expect("artifact_upload_response_message")
        peer.send(text("done"))
        peer.expect("invocation_message")
        peer.send(error(f"not uploaded: ?X-Amz-Signature={MARK}-presigned; {MARK}-redact in .env"))
        answer_all(peer)

    with nothing_told(caplog, capfd) as told, RuntimeUseClient(serve(script).url, model="m").session() as session:
        assert session.query("hi", query_options()).text == "done"
        with pytest.raises(AgentRuntimeError, match="not uploaded") as caught:
            session.query("hi")
        told.append(caught.value)
