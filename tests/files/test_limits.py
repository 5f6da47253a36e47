"""What a sandbox may lack or limit: programs, the size of environments, files and disks; and what it may mask."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from runtimeuse_sync import AgentRuntimeError, RuntimeUseClient
from runtimeuse_sync.files import FileChangedError, FileError
from runtimeuse_sync.files._failures import IS_A_DIRECTORY

from ..support.builders import CONFIRM, Serve, ran
from ..support.servers import Peer
from ..support.strict_runtime import StrictRuntime
from .test_files import random_bytes

#: All programs that file operations use.
TOOLS = (
    *("base64", "cat", "cksum", "chmod", "chown", "dd", "env", "find", "getconf", "head", "ls", "mkdir"),
    *("mv", "readlink", "rm", "rmdir", "sh", "stat", "tar", "tr", "wc"),
)


def only(strict: StrictRuntime, tmp_path: Path, *missing: str) -> None:
    """Gives the sandbox's commands no programs but those that file operations use, and not even all of these."""
    tools = tmp_path / "only these"
    tools.mkdir()
    for tool in set(TOOLS) - set(missing):
        found = shutil.which(tool)
        assert found is not None, tool
        (tools / tool).symlink_to(found)
    strict.env = {"PATH": str(tools)}


def test_no_other_programs_are_needed(strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path) -> None:
    only(strict, tmp_path)
    files = strict_client.files
    files.write("tree/file", random_bytes(2_000_000))
    assert files.read("tree/file") == random_bytes(2_000_000)
    files.download("tree", tmp_path / "copy")
    files.upload(tmp_path / "copy", "again")
    files.upload(tmp_path / "copy", "again")
    assert [entry.name for entry in files.list("again")] == ["file"]
    files.remove("again", recursive=True)
    assert not files.exists("again")


@pytest.mark.parametrize(
    ("missing", "act"),
    [
        ("base64", lambda files, local: files.read("file")),
        ("base64", lambda files, local: files.write("new", "x")),
        ("base64", lambda files, local: files.write("new", random_bytes(200_000))),
        ("base64", lambda files, local: files.list(".")),
        ("base64", lambda files, local: files.download("tree", local / "copy")),
        ("cksum", lambda files, local: files.write("new", "x")),
        ("tar", lambda files, local: files.download("tree", local / "copy")),
        ("tar", lambda files, local: files.upload(local / "tree", "new")),
        ("stat", lambda files, local: files.list(".")),
    ],
)
def test_a_missing_program_is_named(
    strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path, missing: str, act: Any
) -> None:
    only(strict, tmp_path, missing)
    (strict.root / "file").write_text("x")
    (strict.root / "tree").mkdir()
    (tmp_path / "tree").mkdir()
    with pytest.raises(FileError, match=f"The sandbox has no `{missing}`"):
        act(strict_client.files, tmp_path)
    assert sorted(os.listdir(strict.root)) == ["file", "tree"]
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("most", [160_000, 300_000, 1_000_000])
def test_a_small_limit_for_environments(strict: StrictRuntime, strict_client: RuntimeUseClient, most: int) -> None:
    """As `getconf` does not know it, the runtime's error says so."""
    strict.env = {"PATH": strict.env["PATH"]}
    strict.most_env = most
    data = random_bytes(3_000_000)
    strict_client.files.write("file", data)
    assert (strict.root / "file").read_bytes() == data


def test_the_limit_that_getconf_says_is_kept(
    strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "getconf").write_text("#!/bin/sh\necho 600000\n")
    (tools / "getconf").chmod(0o755)
    strict.env = {"PATH": f"{tools}:{strict.env['PATH']}"}
    strict.most_env = 600_000
    strict_client.files.write("file", random_bytes(3_000_000))
    assert max(len(command.get("env", {})) for command in strict.commands) == 4


@pytest.fixture
def small_disk(strict: StrictRuntime) -> Iterator[None]:
    """Lets the sandbox's files have 1 MiB, which is as good as a full disk, and needs no mount."""
    strict.shell = ("/bin/sh", "-c", 'ulimit -f 2048; exec /bin/sh -c "$2"', "sh")
    yield
    strict.shell = ("/bin/sh",)


@pytest.mark.usefixtures("small_disk")
def test_a_file_that_is_too_large_for_the_disk(strict: StrictRuntime, strict_client: RuntimeUseClient) -> None:
    (strict.root / "file").write_text("old")
    with pytest.raises(OSError, match=r"large|limit") as raised:
        strict_client.files.write("file", random_bytes(3_000_000))
    assert isinstance(raised.value, FileError)
    assert raised.value.errno == errno.EFBIG
    assert (strict.root / "file").read_text() == "old"
    assert os.listdir(strict.root) == ["file"]


def test_a_full_disk(strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path) -> None:
    """By a `base64` that fails as on a full disk, since not every machine can have one."""
    tools = tmp_path / "tools"
    tools.mkdir()
    real = shutil.which("base64")
    (tools / "base64").write_text(
        f"""#!/bin/sh
[ "$1" = -d ] || exec {real}
if [ "$({real} -d | tr -d '\\000')" = A ]; then printf A
else echo 'base64: write error: No space left on device' >&2; exit 1; fi
"""
    )
    (tools / "base64").chmod(0o755)
    strict.env["PATH"] = f"{tools}:{strict.env['PATH']}"
    (strict.root / "file").write_text("old")
    (tmp_path / "tree").mkdir()
    acts: List[Callable[[], None]] = [
        lambda: strict_client.files.write("file", "x" * 100),
        lambda: strict_client.files.write("file", random_bytes(300_000)),
        lambda: strict_client.files.upload(tmp_path / "tree", "new"),
    ]
    for act in acts:
        with pytest.raises(OSError, match="No space left on device") as raised:
            act()
        assert isinstance(raised.value, FileError)
        assert raised.value.errno == errno.ENOSPC
    assert (strict.root / "file").read_text() == "old"
    assert os.listdir(strict.root) == ["file"]


def test_a_full_disk_here(strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    (strict.root / "file").write_bytes(random_bytes(2_000_000))
    # A device is never replaced.
    with pytest.raises(FileError) as raised:
        strict_client.files.download("file", "/dev/full")
    assert raised.value.side == "local"


# --- Secrets and logs.


def test_the_clients_secrets_are_not_masked_in_files(strict: StrictRuntime, strict_client: RuntimeUseClient) -> None:
    """A secret that is masked in what commands print is still in the file."""
    data = b"the key is sk-live-abc123\n" * 10
    with strict_client.session() as session:
        session.execute_commands(["true"], secrets_to_redact=["sk-live-abc123", "c2st", "a", "e"])
        session.files.write("file", data)
        assert session.files.read("file") == data
    assert [request["secrets_to_redact"] for request in strict.requests[1:]] == [[]] * (len(strict.requests) - 1)


def test_the_clients_defaults_do_not_apply(strict: StrictRuntime) -> None:
    seen: List[Any] = []
    client = RuntimeUseClient(
        transport=strict,
        secrets_to_redact=["sk-live", "c2st", "a"],
        on_command_output=seen.append,
        artifacts_dirs=["out"],
        on_artifact_upload_request=lambda request: seen.append(request),  # type: ignore[arg-type,return-value]
        source_id="job",
    )
    client.files.write("file", "the key is sk-live")
    assert client.files.read_text("file") == "the key is sk-live"
    assert seen == []
    for request in strict.requests:
        assert set(request) == {"message_type", "commands", "secrets_to_redact"}
        assert request["secrets_to_redact"] == []


def test_an_errors_traceback_is_short(strict_client: RuntimeUseClient) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        strict_client.files.read("none")
    ours = [
        entry for entry in raised.traceback if "runtimeuse_sync" in str(entry.path) and "tests" not in str(entry.path)
    ]
    assert len(ours) <= 3


def test_what_is_altered_on_the_way_is_noticed(strict: StrictRuntime, strict_client: RuntimeUseClient) -> None:
    """By a runtime that masks on its own account."""
    (strict.root / "file").write_bytes(b"x" * 1000)
    (strict.root / "long").write_bytes(random_bytes(2_000_000))
    masking = type(strict.connect())._masked
    try:
        type(strict.connect())._masked = lambda self, text, secrets: text.replace("eHh4", "[REDACTED]", 1)  # type: ignore[method-assign]
        with pytest.raises(FileChangedError):
            strict_client.files.read("file")
        type(strict.connect())._masked = lambda self, text, secrets: text.replace("A", "B", 1)  # type: ignore[method-assign]
        with pytest.raises(FileChangedError):
            strict_client.files.read("long")
    finally:
        type(strict.connect())._masked = masking  # type: ignore[method-assign]


def test_contents_are_in_no_log_record_and_no_error(
    strict: StrictRuntime, strict_client: RuntimeUseClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "kept-to-itself"
    encoded = ["a2VwdC10by1pdHNlbGY", "tlcHQtdG8taXRzZWxm", "rZXB0LXRvLWl0c2VsZ"]
    strict_client.files.write("file", secret)
    assert strict_client.files.read_text("file") == secret
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text(secret)
    strict_client.files.upload(tmp_path / "tree", "tree")
    strict_client.files.download("tree", tmp_path / "copy")
    errors: List[BaseException] = []
    with pytest.raises(IsADirectoryError) as raised:
        strict_client.files.write("tree", secret)
    errors.append(raised.value)
    strict.most_env = 10
    with pytest.raises(AgentRuntimeError, match="E2BIG") as refused:
        strict_client.files.write("other", secret)
    errors.append(refused.value)
    texts = [caplog.text, *(f"{error} {error!r} {error.args} {vars(error)}" for error in errors)]
    for text in texts:
        for sign in (secret, *encoded):
            assert sign not in text
    begun = [record.getMessage() for record in caplog.records if "begins" in record.getMessage()]
    assert begun == [
        f"{kind} begins (source_id=None)"
        for kind in ("writing a file", "reading a file", "uploading", "downloading", "writing a file", "writing a file")
    ]


def test_memory_stays_flat(strict: StrictRuntime, strict_client: RuntimeUseClient, tmp_path: Path) -> None:
    """Less than the file at any time, both ways, together with what the double holds of one request."""
    size = 80_000_000
    local = tmp_path / "local"
    local.write_bytes(random_bytes(1_000_000) * (size // 1_000_000))
    strict.before = lambda command: strict.requests.clear()
    peaks = []
    for act in (
        lambda: strict_client.files.upload(local, "file"),
        lambda: strict_client.files.download("file", tmp_path / "copy"),
    ):
        tracemalloc.start()
        try:
            act()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert (tmp_path / "copy").stat().st_size == size
    sent, received = peaks
    assert sent < size
    assert received < size // 2


def test_a_sandbox_that_sends_nonsense(serve: Serve, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message["message_type"] == "end_session_message":
                peer.send(CONFIRM)
            elif "tar -c" in message["commands"][0]["command"]:
                peer.send(ran("", stdout="drwxr-xr-x\nabcde"))
            else:
                peer.send(ran("", exit_code=IS_A_DIRECTORY))

    client = RuntimeUseClient(serve(script).url)
    with pytest.raises(FileChangedError, match="something that is not the place of an archive"):
        client.files.download("tree", tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
