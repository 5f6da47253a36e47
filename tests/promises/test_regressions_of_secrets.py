"""What once let a secret out, or was lost when it was masked."""

from __future__ import annotations

from typing import Any

import pytest

from runtimeuse_sync import (
    ArtifactUploadResult,
    QueryOptions,
    RuntimeConnectionError,
    RuntimeUseClient,
    RuntimeUseError,
)

from ..support.builders import Serve, client_of, error, upload
from ..support.servers import Peer

MARK = "mArKeR"


@pytest.mark.parametrize(
    ("url", "headers", "repeated"),
    [
        (f"/ws/{MARK}-in-path", {}, f"no {MARK}-in-path here"),
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
