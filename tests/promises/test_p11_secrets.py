"""P11: secrets stay in: they are looked for in everything that is logged, shown and raised."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import traceback
import warnings
from typing import Any, Callable, Iterator, List, Set

import pytest

import runtimeuse_sync
from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeEnvironmentDownloadableInterface,
    RuntimeUseClient,
    RuntimeUseError,
)
from runtimeuse_sync._exchange import MAX_TOLD

from ..servers import CLOSE, PATIENCE, Peer
from .helpers import CONFIRM, Serve, answer, answer_all, assistant, end, error, output, ran, text, upload

#: Stands in everything that is secret, and nowhere else.
MARK = "mArKeR"

HEADERS = {"Authorization": f"Bearer {MARK}-header", "X-Api-Key": f"{MARK}-key"}


def secret_url(port: int) -> str:
    return f"ws://{MARK}-user:{MARK}-password@127.0.0.1:{port}/path?token={MARK}-token"


def query_options(**more: Any) -> QueryOptions:
    return QueryOptions(
        model="m",
        agent_env={"DATABASE_URL": f"postgres://{MARK}-agent-env"},
        secrets_to_redact=[f"{MARK}-redact"],
        pre_agent_invocation_commands=[CommandInterface("ls", env={"TOKEN": f"{MARK}-command-env"})],
        pre_agent_downloadables=[
            RuntimeEnvironmentDownloadableInterface(f"https://s3/x.zip?sig={MARK}-download", "/w")
        ],
        artifacts_dir="/out",
        on_artifact_upload_request=presign,
        **more,
    )


def command_options(**more: Any) -> ExecuteCommandsOptions:
    return ExecuteCommandsOptions(
        secrets_to_redact=[f"{MARK}-redact"],
        pre_execution_downloadables=[RuntimeEnvironmentDownloadableInterface(f"https://{MARK}-u@s3/x", "/w")],
        artifacts_dir="/out",
        on_artifact_upload_request=presign,
        **more,
    )


COMMAND = CommandInterface("make", env={"TOKEN": f"{MARK}-command-env"})


def presign(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
    result = ArtifactUploadResult(f"https://s3/{request.filename}?X-Amz-Signature={MARK}-presigned", "text/plain")
    assert MARK not in repr(result)
    return result


@contextlib.contextmanager
def nothing_told(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[List[BaseException]]:
    """Asserts that neither logs, nor warnings, nor output, nor the exceptions put into the list tell a secret."""
    told: List[BaseException] = []
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield told
    for record in caplog.records:
        assert MARK not in record.getMessage() + repr(record.args) + str(record.exc_info)
    assert MARK not in caplog.text
    assert MARK not in "".join(str(warning.message) for warning in warned)
    assert MARK not in "".join(capfd.readouterr())
    for each in told:
        assert_silent(each)


def assert_silent(error: BaseException) -> None:
    assert MARK not in "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert MARK not in repr(error) + str(error) + repr(getattr(error, "metadata", None))
    assert MARK not in repr(copy.copy(error))


def telling(message: Any) -> Callable[[Peer], None]:
    """A runtime that repeats all that it was told, as one that does not redact may."""

    def script(peer: Peer) -> None:
        peer.accept()
        for received in peer.requests():
            if received["message_type"] == "end_session_message":
                peer.send(upload("/out/late"))
                peer.expect("artifact_upload_response_message")
                peer.send(CONFIRM)
            elif received["message_type"].endswith("upload_response_message"):
                query = peer.messages[0]["message_type"] == "invocation_message"
                peer.send(message if message else text("done") if query else ran("make"))
            else:
                assert MARK in str(received)
                peer.send(assistant("a"), output("o"), {"message_type": "heartbeat_message", "bad": MARK})
                peer.send(upload("/out/a"))

    return script


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
    [f"http://user:{MARK}{end}" for end in ("#x@host/", "/x@host/", "?x@host/")] + [f"socks5://user:{MARK}@host"],
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


def test_a_secret_that_every_call_of_a_long_session_tells(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message.get("user_prompt") == "last":
                peer.send(error(f"left behind: {MARK} and old-0"))
            else:
                answer(peer, message)

    with RuntimeUseClient(serve(script).url, model="m").session() as session:
        for number in range(MAX_TOLD):
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
    def script(peer: Peer) -> None:
        peer.accept()
        peer.expect("invocation_message")
        peer.send(text("done"))
        peer.expect("end_session_message")
        peer.send(upload(f"/out/{MARK}-redact"), CONFIRM)

    def fail(_: Any) -> ArtifactUploadResult:
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
