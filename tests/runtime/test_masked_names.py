"""Artifacts whose paths have secrets in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.artifacts import UploadDirectory

from ..support.storage import Storage
from .conftest import Connect, StartRuntime
from .wire import Message

REQUEST = "artifact_upload_request_message"
SECRETS = ["hunter1", "hunter2", "hunter3"]


def announced(messages: List[Message], root: Path) -> Dict[str, str]:
    """Returns the announced paths, relative to `root`, with the announced names."""
    requests = [message for message in messages if message["message_type"] == REQUEST]
    return {os.path.relpath(request["filepath"], root): request["filename"] for request in requests}


def write(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)


def test_names_that_differ_in_secrets_alone_stay_apart(talk: Connect, tmp_path: Path) -> None:
    write(tmp_path / "out", "hunter1.txt", "hunter2.txt", "hunter3.txt", "of hunter1/a", "of hunter2/a", "plain")
    # What is called so indeed.
    write(tmp_path / "out", "[REDACTED]-3.txt")
    found = announced(talk().commands("true", artifacts_dirs=["out"], secrets_to_redact=SECRETS), tmp_path / "out")
    assert found == {
        "[REDACTED]-3.txt": "[REDACTED]-3.txt",
        "[REDACTED].txt": "[REDACTED].txt",
        "[REDACTED]-2.txt": "[REDACTED]-2.txt",
        "[REDACTED]-4.txt": "[REDACTED]-4.txt",
        "of [REDACTED]/a": "a",
        "of [REDACTED]/a-2": "a-2",
        "plain": "plain",
    }


def test_a_file_keeps_its_name_and_its_answer_finds_it(talk: Connect, storage: Storage, tmp_path: Path) -> None:
    wire = talk(artifact_settle=0.05)
    write(tmp_path / "out", "hunter1", "hunter2")
    first, second, _ = wire.commands("true", artifacts_dirs=["out"], secrets_to_redact=SECRETS)
    assert (first["filename"], second["filename"]) == ("[REDACTED]", "[REDACTED]-2")
    wire.answer(second, storage.url + "/second")
    assert storage.wait_for(1)[0].body == b"hunter2"
    # Also after the first one has gone, as what was made of that is still there.
    wire.send_commands("rm out/hunter1; echo again > out/hunter2", secrets_to_redact=SECRETS)
    assert wire.receive_until(REQUEST)[-1]["filename"] == "[REDACTED]-2"


def test_no_file_takes_anothers_place_at_the_client(start: StartRuntime, tmp_path: Path) -> None:
    write(tmp_path / "out", "hunter1.txt", "hunter2.txt")
    client = RuntimeUseClient(start(end_session_delay=0.05).ws_url, model="m")
    with UploadDirectory(tmp_path / "kept") as uploads:
        client.execute_commands(
            ["true"], artifacts_dirs=["out"], on_artifact_upload_request=uploads.callback, secrets_to_redact=SECRETS
        )
    kept = [path.read_text() for path in (tmp_path / "kept").rglob("*.txt")]
    assert sorted(kept) == ["hunter1.txt", "hunter2.txt"]
