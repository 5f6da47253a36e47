"""Files in the sandbox without a bucket: write, read, list, copy a tree both ways, see progress, handle errors."""

import tempfile
from pathlib import Path
from typing import Optional

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime


def one_file(client: RuntimeUseClient) -> None:
    client.files.write("config/settings.ini", "[run]\nlevel = 3\n", mode=0o600)
    print("read back:", client.files.read_text("config/settings.ini").split())
    print("list:", [(entry.name, entry.kind, entry.size) for entry in client.files.list("config")])


def a_tree(client: RuntimeUseClient, here: Path) -> None:
    source = here / "source"
    (source / "empty").mkdir(parents=True)
    (source / "words.txt").write_text("to be or not to be\n")
    (source / "latest").symlink_to("words.txt")
    client.files.upload(source, "job")
    client.execute_commands(["mkdir -p job/out && wc -w < job/latest > job/out/count.txt"])
    copy = client.files.download("job", here / "copy")
    print("copied:", sorted(str(path.relative_to(copy)) for path in copy.rglob("*")))
    print("count:", (copy / "out" / "count.txt").read_text().strip())


def with_progress(client: RuntimeUseClient, here: Path) -> None:
    def show(done: int, total: Optional[int]) -> None:
        if total and done == total:
            print(f"sent {done:,} of {total:,} bytes")

    big = here / "big.bin"
    big.write_bytes(bytes(5_000_000))
    with client.session() as session, big.open("rb") as file:
        session.files.write("big.bin", file, progress=show, timeout=60)
        print("arrived:", len(session.files.read("big.bin")))


def what_fails(client: RuntimeUseClient) -> None:
    try:
        client.files.read("nothing.txt")
    except FileNotFoundError as error:
        print("not found:", error.filename)
    try:
        client.files.remove("job")
    except IsADirectoryError as error:
        print("remove:", error)
    client.files.remove("job", recursive=True)
    print("still there:", client.files.exists("job"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as sandbox, tempfile.TemporaryDirectory() as local:
        with LocalRuntime(root=sandbox) as runtime:
            client = RuntimeUseClient(runtime.ws_url)
            one_file(client)
            a_tree(client, Path(local))
            with_progress(client, Path(local))
            what_fails(client)
