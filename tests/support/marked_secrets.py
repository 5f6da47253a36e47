"""Marked secrets for every place that can hold one, and a watch for them in all that is logged, shown and raised.

Each mark names its place, so a leak says which secret it was. The clients and options made here are full: whatever can
hold a secret does. The tests of secrets in `promises` and `reliability` share them.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import logging
import pickle
import traceback
import warnings
from typing import Any, Callable, Dict, Iterator, List

import pytest

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeEnvironmentDownloadableInterface,
    RuntimeUseClient,
)

from .builders import CONFIRM, assistant, output, ran, text, upload
from .servers import Peer

MARK = "mArKeD"


def mark(place: str) -> str:
    return f"{MARK}-{place}"


USER, PASSWORD = mark("user"), mark("password")

HEADERS = {
    "Authorization": f"Bearer {mark('bearer')}",
    "X-Api-Key": mark("key"),
    "Cookie": f"a=1; sid={mark('cookie')}",
}

_PLACES = ("token", "path", "bearer", "key", "cookie", "redact", "agent-env", "command-env", "download", "presigned")

#: The secrets that arrive at the runtime as they are.
SENT = [mark(place) for place in _PLACES]

#: What no text may hold: the marks, and forms in which they travel.
FORBIDDEN = [MARK, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()[:20], MARK.encode().hex()]


def marked_client(port: int, **settings: Any) -> RuntimeUseClient:
    """A client of a server on loopback; without headers of its own it authenticates by its URL."""
    url = f"ws://{USER}:{PASSWORD}@127.0.0.1:{port}/v1/{mark('path')}?token={mark('token')}&b=1"
    return RuntimeUseClient(url, **{"model": "m", "headers": HEADERS, **settings})


def command(line: str = "make") -> CommandInterface:
    return CommandInterface(line, env={"TOKEN": mark("command-env"), "CI": "1"})


def _download() -> RuntimeEnvironmentDownloadableInterface:
    user = mark("download")
    return RuntimeEnvironmentDownloadableInterface(f"https://{user}@s3/x.zip?sig={mark('download')}", "/w")


def presign(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
    query = f"X-Amz-Signature={mark('presigned')}"
    return ArtifactUploadResult(f"https://{mark('presigned')}:x@s3/{request.filename}?{query}", "text/plain")


def _common(**more: Any) -> Dict[str, Any]:
    return {
        "secrets_to_redact": [mark("redact"), f'{mark("redact")} "quoted" and\nlong'],
        "source_id": f"job-{mark('redact')}",
        "artifacts_dirs": ["/out"],
        "on_artifact_upload_request": presign,
        "end_session_timeout": 5.0,
        **more,
    }


def query_options(**more: Any) -> QueryOptions:
    return QueryOptions(
        **_common(
            agent_env={"DATABASE_URL": mark("agent-env")},
            system_prompt=f"Log in with {mark('redact')}.",
            pre_agent_invocation_commands=[command()],
            post_agent_invocation_commands=[command()],
            pre_agent_downloadables=[_download()],
            **more,
        )
    )


def command_options(**more: Any) -> ExecuteCommandsOptions:
    return ExecuteCommandsOptions(**_common(pre_execution_downloadables=[_download()], **more))


class Watch(logging.Handler):
    """Collects all that is logged, warned, raised and shown while it is entered; `check` looks for marks in it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._texts: List[str] = []
        self._formatter = logging.Formatter("%(name)s %(threadName)s %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        self._texts.append(f"{self._formatter.format(record)} {record.args!r} {record.exc_info!r}")

    def show(self, *objects: Any) -> None:
        """Looks at the `repr` of objects, too."""
        self._texts += [repr(each) for each in objects]

    def raised(self, error: BaseException) -> None:
        """Looks at an exception, all that it is chained to, and what a copy and a pickle of it show."""
        self._texts += traceback.format_exception(type(error), error, error.__traceback__)
        again = [copy.copy(error), pickle.loads(pickle.dumps(error))]
        self._texts += [shown for each in (error, *again) for shown in (repr(each), str(each))]
        self._texts.append(repr(getattr(error, "metadata", None)))

    def check(self) -> int:
        """Asserts that there is no mark; returns how many texts were looked at, and forgets them."""
        leaks = self.leaks()
        assert not leaks, leaks
        texts, self._texts = self._texts, []
        return len(texts)

    def leaks(self) -> List[str]:
        """Returns the texts with marks in them."""
        return [each for each in self._texts if any(form in each for form in FORBIDDEN)]

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        root = logging.getLogger()
        level = root.level
        root.addHandler(self)
        root.setLevel(logging.DEBUG)
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                yield
            self._texts += [str(each.message) for each in warned]
            assert not warned, [str(each.message) for each in warned]
        finally:
            root.setLevel(level)
            root.removeHandler(self)


def assert_silent(error: BaseException) -> None:
    """Asserts that an exception shows no mark."""
    watch = Watch()
    watch.raised(error)
    watch.check()


@contextlib.contextmanager
def nothing_shown(capfd: pytest.CaptureFixture[str]) -> Iterator[Watch]:
    """Asserts that no mark is logged, warned or printed, nor in the exceptions that the watch gets."""
    watch = Watch()
    with watch.watching():
        yield watch
    watch.check()
    assert MARK not in "".join(capfd.readouterr())


def repeating(message: Any) -> Callable[[Peer], None]:
    """Returns a script that announces a file during each request and one at the session's end.

    Args:
        message: The terminal message of each request; `None` for a result.
    """

    def script(peer: Peer) -> None:
        peer.accept()
        for received in peer.requests():
            if received["message_type"] == "end_session_message":
                peer.send(upload("/out/late"))
                while peer.expect("artifact_upload_response_message")["filepath"] != "/out/late":
                    pass  # of a file that was announced before
                peer.send(CONFIRM)
            elif received["message_type"].endswith("upload_response_message"):
                query = peer.messages[0]["message_type"] == "invocation_message"
                peer.send(message if message else text("done") if query else ran("make"))
            else:
                assert MARK in str(received)
                peer.send(assistant("a"), output("o"), {"message_type": "heartbeat_message", "bad": MARK})
                peer.send(upload("/out/a"))

    return script
