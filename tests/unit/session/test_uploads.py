"""The upload requests of a connection: none is lost, wherever an interrupt comes."""

from __future__ import annotations

from typing import Any, List

import pytest

from runtimeuse_sync import ArtifactUploadRequestMessageInterface, ArtifactUploadResult, QueryOptions
from runtimeuse_sync._call import Call
from runtimeuse_sync._connection.base import Connection
from runtimeuse_sync._session.callbacks import Callbacks
from runtimeuse_sync._session.turns import Ticket
from runtimeuse_sync._session.uploads import Uploads

from ...support.doubles import IdleConnection, Interrupt, at_every_step, interrupt

REQUEST = ArtifactUploadRequestMessageInterface("artifact_upload_request_message", "a.txt", "/a/a.txt")


def upload(_: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
    return ArtifactUploadResult("http://storage/a.txt", "text/plain")


def fail(_: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
    raise OSError("no storage")


@pytest.mark.parametrize(
    ("function", "callback"),
    [
        (Uploads.serve_next, upload),
        (Uploads.serve_next, fail),
        (Callbacks.upload, upload),
        (Callbacks.upload, fail),
        (Connection.submit, upload),
    ],
)
def test_a_request_is_answered_or_known_whenever_an_interrupt_comes(function: Any, callback: Any) -> None:
    for runner in at_every_step(function, interrupt):
        connection = IdleConnection()
        uploads = Uploads(connection.submit)
        uploads.kept.append(REQUEST)
        uploads.options = QueryOptions(artifacts_dir="/a", on_artifact_upload_request=callback)
        call = Call("query", None)
        outcomes: List[str] = []

        def serve(uploads: Uploads = uploads, call: Call = call, outcomes: List[str] = outcomes) -> None:
            assert uploads.options is not None
            callbacks = Callbacks(uploads.options, call, Ticket(call.wakeup))
            try:
                uploads.serve_next(call, callbacks)
            except (Interrupt, OSError) as error:
                outcomes.append(type(error).__name__)

        runner(serve)
        answered = len(connection.take_outgoing())
        assert answered + len(uploads.kept) + len(uploads.failed) >= 1, outcomes
        if not runner.reached:
            # Without an interrupt the request is in one place only.
            expected = (1, 0, 0) if callback is upload else (0, 0, 1)
            assert (answered, len(uploads.kept), len(uploads.failed)) == expected
