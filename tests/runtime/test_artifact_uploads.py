"""Artifacts: what becomes of a file once it has been announced."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List

import pytest
import requests
import responses

from runtimeuse_sync import ArtifactUploadResult, RuntimeUseClient

from ..support.storage import Storage
from .announced import CONFIRM, announced, end_and_answer, end_in_vain, files
from .conftest import Connect, StartRuntime
from .wire import Wire, named, wire_to


def test_an_unanswered_request_does_not_hold_up_the_end_for_ever(
    talk: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    wire = talk(upload_response_timeout=0.2)
    came = wire.commands("echo x > out/x", artifacts_dirs=["out"])
    late, reason = wire.end_unconfirmed()
    assert files(came + late) == ["x"]
    assert reason == "1 artifact was not uploaded: x (not answered)"
    assert "did not answer" in caplog.text


def test_a_failed_upload_is_tried_again(wire: Wire, storage: Storage) -> None:
    storage.answers = [500, 503]
    end_and_answer(wire, storage.url, wire.commands("echo x > out/x", artifacts_dirs=["out"]))
    assert [put.body for put in storage.received] == [b"x\n"] * 3


@pytest.mark.parametrize(("answers", "tries"), [([403], 1), ([500] * 9, 4)])
def test_an_upload_that_fails_for_good_is_logged_without_the_signature(
    wire: Wire, storage: Storage, answers: List[int], tries: int, caplog: pytest.LogCaptureFixture
) -> None:
    storage.answers = answers[:]
    with caplog.at_level(logging.DEBUG):
        reason = end_in_vain(wire, storage.url, wire.commands("echo x > out/x", artifacts_dirs=["out"]))
    assert reason == f"1 artifact was not uploaded: x (HTTP status {answers[0]})"
    assert len(storage.received) == tries
    assert f"/x?[REDACTED] failed: HTTP status {answers[0]}" in caplog.text
    assert "sig=x" not in "\n".join(str(r) for r in caplog.messages)


def test_an_upload_to_nowhere_is_logged(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    reason = end_in_vain(wire, "http://127.0.0.1:1", wire.commands("echo x > out/x", artifacts_dirs=["out"]))
    assert reason == "1 artifact was not uploaded: x (ConnectionError)"
    assert "failed: ConnectionError" in caplog.text


def test_a_file_that_has_gone_is_logged(wire: Wire, storage: Storage, tmp_path: Path) -> None:
    request = announced(wire, wire.commands("echo x > out/x", artifacts_dirs=["out"]))
    (tmp_path / "out" / "x").unlink()
    wire.answer(request, storage.url + "/x")
    assert named(wire.end()) == [(CONFIRM, None)]
    assert storage.received == []


@pytest.mark.parametrize("fields", [{}, {"filepath": "/etc/passwd"}, {"filepath": 3}, {"presigned_url": None}])
def test_only_announced_files_are_uploaded(
    wire: Wire, storage: Storage, fields: Dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    response = {"filename": "a", "filepath": "/tmp/a", "presigned_url": storage.url + "/a", "content_type": "t"}
    wire.send("artifact_upload_response_message", **{**response, **fields})
    wire.assert_idle()
    wire.end()
    assert storage.received == []
    assert "Ignored an upload response" in caplog.text


def test_a_secret_in_a_path_is_masked_and_the_answer_finds_the_file(talk: Connect, storage: Storage) -> None:
    wire = talk(artifact_settle=0.05)
    came = wire.commands("echo x > out/SECRET.txt", artifacts_dirs=["out"], secrets_to_redact=["SECRET"])
    request = announced(wire, came)
    assert request["filename"] == "[REDACTED].txt"
    wire.answer(request, storage.url + "/x")
    assert storage.wait_for(1)[0].body == b"x\n"


def test_an_answered_upload_outlives_its_client(start: StartRuntime, storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x" * 100)
    storage.answers = [500]
    with wire_to(start(upload_retry_delay=0.3)) as wire:
        wire.answer(wire.commands("true", artifacts_dirs=["."])[0], storage.url + "/x")
        storage.wait_for(1)
    assert len(storage.wait_for(2)) == 2


@pytest.mark.parametrize("kind", ["query", "commands"])
def test_the_last_act_of_a_one_shot_call_is_delivered(start: StartRuntime, storage: Storage, kind: str) -> None:
    def on_artifact_upload_request(request: Any) -> ArtifactUploadResult:
        return ArtifactUploadResult(f"{storage.url}/{request.filename}", "text/plain")

    client = RuntimeUseClient(start(end_session_delay=0.0, artifact_settle=0.05).ws_url, model="m")

    def call(number: int) -> None:
        script = f"printf {number} > out-{number}/{number}"
        options: Dict[str, Any] = {
            "artifacts_dirs": [f"out-{number}"],
            "on_artifact_upload_request": on_artifact_upload_request,
        }
        if kind == "query":
            client.query(script, **options)
        else:
            client.execute_commands([script], **options)

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(call, range(10)))
    # By the calls' return, and each once.
    assert sorted((put.path, put.body) for put in storage.received) == [(f"/{n}", b"%d" % n) for n in range(10)]


PRESIGNED = "https://storage.example/bucket/x?X-Signature=hidden"


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([503, 429, 200], "Uploaded"),
        ([requests.ConnectionError("refused at " + PRESIGNED), 200], "Uploaded"),
        ([requests.ReadTimeout("slow at " + PRESIGNED), 200], "Uploaded"),
        ([403], "failed: HTTP status 403"),
        ([500, 502, 503, 504], "failed: HTTP status 504"),
        ([requests.ConnectionError("refused at " + PRESIGNED)] * 4, "failed: ConnectionError"),
    ],
)
def test_uploads_to_a_storage_that_fails(
    wire: Wire, answers: List[Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with responses.RequestsMock() as storages, caplog.at_level(logging.INFO):
        for answer in answers:
            if isinstance(answer, int):
                storages.put(PRESIGNED, status=answer)
            else:
                storages.put(PRESIGNED, body=answer)
        came = wire.commands("echo x > out/x", artifacts_dirs=["out"])
        wire.send("end_session_message")
        wire.answer(announced(wire, came), PRESIGNED, "text/css")
        if said == "Uploaded":
            assert named(wire.receive_until(CONFIRM)) == [(CONFIRM, None)]
        else:
            assert wire.until_given_up() == ([], f"1 artifact was not uploaded: x ({said.partition(': ')[2]})")
        assert len(storages.calls) == len(answers)
        assert {call.request.headers["Content-Type"] for call in storages.calls} == {"text/css"}
    assert said in caplog.text
    assert "hidden" not in caplog.text
