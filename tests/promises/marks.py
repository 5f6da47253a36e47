"""Secrets that are marked, in everything that a call can be given, and a watch for the mark."""

from __future__ import annotations

import contextlib
import copy
import logging
import traceback
import warnings
from typing import Any, Callable, Iterator, List

import pytest

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeEnvironmentDownloadableInterface,
)

from ..support.builders import CONFIRM, assistant, output, ran, text, upload
from ..support.servers import Peer

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
                while peer.expect("artifact_upload_response_message")["filepath"] != "/out/late":
                    pass  # of one that was announced before
                peer.send(CONFIRM)
            elif received["message_type"].endswith("upload_response_message"):
                query = peer.messages[0]["message_type"] == "invocation_message"
                peer.send(message if message else text("done") if query else ran("make"))
            else:
                assert MARK in str(received)
                peer.send(assistant("a"), output("o"), {"message_type": "heartbeat_message", "bad": MARK})
                peer.send(upload("/out/a"))

    return script
