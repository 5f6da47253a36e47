"""Lone surrogates in what a runtime sends: no text that the user gets contains one."""

from __future__ import annotations

import json
import queue
from typing import Any, Dict, Iterator, List, Optional

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    ArtifactUploadResult,
    CommandFailedError,
    RuntimeUseClient,
    StructuredOutputResult,
    _artifact_server,
)
from runtimeuse_sync._wire.codec import decode
from runtimeuse_sync._wire.surrogates import may_have_half, mended, mended_value
from runtimeuse_sync.artifacts import UploadDirectory
from runtimeuse_sync.testing import FakeRuntime

from ...support.doubles import Message
from ...support.servers import PATIENCE
from ...support.transports import make_client

HIGH, LOW, GRIN = "\ud83d", "\ude00", "\U0001f600"

#: The text that is received, and the text that the user gets.
TEXTS = [
    (f"a{HIGH}", "a\ufffd"),
    (f"{LOW}b", "\ufffdb"),
    (f"{HIGH}b{HIGH}", "\ufffdb\ufffd"),
    (LOW + HIGH, "\ufffd\ufffd"),
    (HIGH + LOW, GRIN),
    (HIGH + HIGH + LOW, "\ufffd" + GRIN),
    (f"é{GRIN}", f"é{GRIN}"),
    ("", ""),
]

#: How a custom transport may return a message: a dict, JSON text with escapes, or JSON text with surrogates in it.
FORMS: Dict[str, Any] = {
    "dict": lambda message: message,
    "escaped": json.dumps,
    "raw": lambda message: json.dumps(message, ensure_ascii=False),
}

DONE: Message = {"message_type": "command_execution_result_message", "results": []}


@pytest.fixture(params=sorted(FORMS))
def form(request: pytest.FixtureRequest) -> Any:
    return FORMS[request.param]


def client_of(form: Any, *messages: Message, sent: Optional[List[Any]] = None) -> RuntimeUseClient:
    def transport(send_queue: queue.Queue[Optional[Message]]) -> Iterator[Any]:
        send_queue.get()
        for message in messages:
            yield form(message)
            if sent is not None and message["message_type"] == "artifact_upload_request_message":
                sent.append(send_queue.get(timeout=PATIENCE))

    return make_client(transport)


def chunk(text: str, stream: str = "stdout", command: str = "ls") -> Message:
    return {"message_type": "command_output_message", "stream": stream, "text": text, "command": command}


def text_result(text: str, metadata: Optional[Dict[str, Any]] = None) -> Message:
    return {"message_type": "result_message", "data": {"type": "text", "text": text}, "metadata": metadata}


@pytest.mark.parametrize(("text", "whole"), TEXTS, ids=ascii)
def test_texts(text: str, whole: str) -> None:
    assert mended(text) == whole
    value = {text: [text, {"n": 1, "t": text}], "more": None}
    assert mended_value(value) == {whole: [whole, {"n": 1, "t": whole}], "more": None}


def test_the_last_of_keys_that_become_equal_wins() -> None:
    assert mended_value({"a" + HIGH: [1], "a" + LOW: [2]}) == {"a\ufffd": [2]}


def test_text_without_surrogates_is_unchanged() -> None:
    value = {"a": ["é", GRIN, 1]}
    assert mended_value(value) is value
    assert not may_have_half(json.dumps({"a": "plain\n"}))
    assert not may_have_half(json.dumps({"a": GRIN}, ensure_ascii=False))


def test_long_texts_are_checked_to_the_end() -> None:
    assert mended("é" * (1 << 20) + HIGH)[-1] == "\ufffd"
    assert mended(HIGH + LOW + "é" * (1 << 20))[0] == GRIN


def test_any_depth() -> None:
    value: Any = HIGH
    for _ in range(100_000):
        value = [value]
    value = mended_value(value)
    while isinstance(value, list):
        value = value.pop()
    assert value == "\ufffd"


@pytest.mark.parametrize(("text", "whole"), TEXTS, ids=ascii)
def test_results_of_queries(form: Any, text: str, whole: str) -> None:
    result = client_of(form, text_result(text, {"k" + text: [text]})).query("p")
    assert (result.text, result.metadata) == (whole, {"k" + whole: [whole]})
    output = {"type": "structured_output", "structured_output": {"k" + text: {"n": [1, text]}}}
    result = client_of(form, {"message_type": "result_message", "data": output}).query("p")
    assert result.data == StructuredOutputResult({"k" + whole: {"n": [1, whole]}})
    str(result).encode()


@pytest.mark.parametrize(("text", "whole"), TEXTS, ids=ascii)
def test_results_of_commands(form: Any, text: str, whole: str) -> None:
    results = [{"command": "c" + text, "exit_code": 0, "stdout": text}]
    message: Message = {"message_type": "command_execution_result_message", "results": results}
    item = client_of(form, message).execute_commands(["c"]).results[0]
    assert (item.command, item.stdout) == ("c" + whole, whole)
    results.append({"command": "c" + text, "exit_code": 1, "stdout": text})
    with pytest.raises(CommandFailedError) as caught:
        client_of(form, message).execute_commands(["c"])
    str(caught.value).encode()
    assert caught.value.command == "c" + whole


@pytest.mark.parametrize(("text", "whole"), TEXTS, ids=ascii)
def test_errors(form: Any, text: str, whole: str) -> None:
    metadata = {"stack": text, "k" + text: text}
    with pytest.raises(AgentRuntimeError) as caught:
        client_of(form, {"message_type": "error_message", "error": "e" + text, "metadata": metadata}).query("p")
    assert (caught.value.error, caught.value.metadata) == ("e" + whole, {"stack": whole, "k" + whole: whole})
    str(caught.value).encode()


@pytest.mark.parametrize(("text", "whole"), TEXTS, ids=ascii)
def test_streamed_texts(form: Any, text: str, whole: str) -> None:
    messages: List[Message] = [
        {"message_type": "assistant_message", "text_blocks": ["plain", text]},
        {"message_type": "heartbeat_message", "phase": "p" + text, "elapsed_ms": 1},
    ]
    heard: List[Any] = []
    client_of(form, *messages, text_result("")).query(
        "p",
        on_assistant_message=lambda message: heard.append(message.text_blocks),
        on_heartbeat=lambda message: heard.append(message.phase),
    )
    assert heard == [["plain", whole], "p" + whole]


def streamed(form: Any, *messages: Message) -> List[Any]:
    heard: List[Any] = []
    client_of(form, *messages).execute_commands(
        ["ls"], on_command_output=lambda message: heard.append((message.stream, message.command, message.text))
    )
    return heard


@pytest.mark.parametrize(
    ("chunks", "whole"),
    [
        (["a" + HIGH, LOW + "b"], ["a", GRIN + "b"]),
        ([HIGH, LOW], [GRIN]),
        (["a" + HIGH, "b"], ["a", "\ufffdb"]),
        (["a" + HIGH, HIGH + LOW], ["a", "\ufffd" + GRIN]),
        (["a" + HIGH, "b" + HIGH, LOW], ["a", "\ufffdb", GRIN]),
        (["a" + HIGH], ["a", "\ufffd"]),
        ([HIGH], ["\ufffd"]),
        ([LOW + "a", "b"], ["\ufffda", "b"]),
        (["", HIGH, "b", LOW], ["", "\ufffdb", "\ufffd"]),
        (["a", "b"], ["a", "b"]),
    ],
    ids=ascii,
)
def test_a_pair_in_two_chunks_is_joined(form: Any, chunks: List[str], whole: List[str]) -> None:
    assert [text for _, _, text in streamed(form, *map(chunk, chunks), DONE)] == whole


def test_each_stream_of_each_command_is_joined_separately(form: Any) -> None:
    parts = [(stream, command) for command in ("one", "two") for stream in ("stdout", "stderr")]
    firsts = [chunk("a" + HIGH, *part) for part in parts]
    seconds = [chunk(LOW, *part) for part in parts]
    assert streamed(form, *firsts, *seconds, DONE) == [(*p, "a") for p in parts] + [(*p, GRIN) for p in parts]


def test_a_half_that_stays_alone_comes_before_the_result() -> None:
    heard: List[str] = []
    error = {"message_type": "error_message", "error": "failed"}
    client = client_of(FORMS["escaped"], chunk("a" + HIGH), chunk("b" + HIGH, "stderr"), error)
    with pytest.raises(AgentRuntimeError, match="failed"):
        client.query("p", on_command_output=lambda message: heard.append(message.text))
    assert heard == ["a", "b", "\ufffd", "\ufffd"]


def test_a_half_is_not_kept_for_the_next_call() -> None:
    # The first call leaves before its second chunk. The second call must not get any of it.
    said = {"message_type": "assistant_message", "text_blocks": ["x"]}
    fake = FakeRuntime([[chunk(HIGH), said], [chunk(LOW), DONE]])
    heard: List[str] = []
    with RuntimeUseClient(transport=fake, model="m").session() as session:
        with session.stream("p") as run:
            next(run)
        session.execute_commands(["ls"], on_command_output=lambda message: heard.append(message.text))
    assert heard == ["\ufffd"]


def test_file_names_are_sent_back_as_received(form: Any) -> None:
    names = {"filename": "caf\udce9.txt", "filepath": "/out/caf\udce9.txt"}
    request: Message = {"message_type": "artifact_upload_request_message", **names}
    sent: List[Any] = []
    asked: List[Any] = []

    def upload(wanted: Any) -> ArtifactUploadResult:
        asked.append((wanted.filename, wanted.filepath))
        return ArtifactUploadResult("https://store.test/x", "text/plain")

    confirmed: Message = {"message_type": "end_session_confirm_message"}
    client = client_of(form, request, text_result("4"), confirmed, sent=sent)
    client.query("p", artifacts_dirs=["/out"], on_artifact_upload_request=upload)
    assert asked == [("caf\ufffd.txt", "/out/caf\ufffd.txt")]
    assert {name: sent[0][name] for name in names} == names


def test_an_upload_directory_keeps_the_bytes_of_file_names(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_artifact_server, "_GRACE", 0.1)

    def url_for(name: str) -> str:
        message = {"message_type": "artifact_upload_request_message", "filename": name, "filepath": "/out/" + name}
        return uploads.callback(decode(message)).presigned_url

    uploads = UploadDirectory(tmp_path)

    def announce() -> None:
        with uploads:
            assert "/out/caf%E9?" in url_for("caf\udce9")
            assert url_for("caf\udce9") != url_for("caf\udcea")

    with pytest.raises(ArtifactUploadError) as caught:
        announce()
    assert [failure.name for failure in uploads.failures] == ["out/caf\ufffd"] * 2
    assert str(caught.value).count("out/caf\ufffd") == 2
