"""Get the files that the agent writes: into a directory, and by a callback of your own.

The runtime announces each file, and a callback returns where to upload it. `UploadDirectory` is a ready-made one. A
small HTTP server stands in for the storage behind the presigned URLs of the other one.
"""

import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict

from runtimeuse_sync import (
    ArtifactUploadError,
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    RuntimeUseClient,
)
from runtimeuse_sync.artifacts import UploadDirectory
from runtimeuse_sync.runtime import LocalRuntime

SCRIPT = """
mkdir -p output/charts
echo '12 apples' > output/stock.txt
echo '[12]' > output/charts/stock.json
echo noise > output/debug.log
echo the report is written
"""

stored: Dict[str, bytes] = {}


class Storage(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        stored[self.path.partition("?")[0]] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


def into_a_directory(client: RuntimeUseClient, directory: Path) -> None:
    with UploadDirectory(directory) as uploads:
        result = client.query(
            SCRIPT, artifacts_dirs=["output"], artifacts_ignore_content="*.log", on_artifact_upload_request=uploads
        )
    print("result:", result.text.strip())
    for file in uploads.files:
        print(f"received: {file.name} ({file.size} bytes): {file.path.read_text().strip()}")


def when_an_upload_fails(client: RuntimeUseClient, directory: Path) -> None:
    # A directory is in the way of one of the files.
    (directory / "stock.txt").mkdir(parents=True)
    uploads = UploadDirectory(directory)
    try:
        with uploads:
            client.query(SCRIPT, artifacts_dirs=["output"], on_artifact_upload_request=uploads)
    except ArtifactUploadError:
        for failure in uploads.failures:
            print(f"failed: {failure.name}: {failure.reason}")


def by_a_callback(client: RuntimeUseClient) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()

    def on_artifact_upload_request(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        print(f"announced: {request.relative_path}")
        url = f"http://127.0.0.1:{server.server_port}/{request.relative_path}?signature=abc"
        return ArtifactUploadResult(presigned_url=url, content_type="text/plain")

    try:
        client.query(
            "mkdir -p summary/fruit; echo '12 apples' > summary/fruit/apples.txt",
            artifacts_dirs=["summary"],
            on_artifact_upload_request=on_artifact_upload_request,
        )
    finally:
        server.shutdown()
        server.server_close()
    for path, content in stored.items():
        print(f"stored: {path} ({len(content)} bytes): {content.decode().strip()}")


def main() -> None:
    directory = tempfile.TemporaryDirectory()
    # Shorter waits than the defaults, for files to settle and for late files, so that the example ends soon.
    quick = LocalRuntime(root=directory.name, artifact_settle=0.2, end_session_delay=0.2)
    with directory, quick as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="any")
        into_a_directory(client, Path(directory.name, "received"))
        when_an_upload_fails(client, Path(directory.name, "occupied"))
        by_a_callback(client)


if __name__ == "__main__":
    main()
