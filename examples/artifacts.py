"""Upload files that the agent writes: the runtime announces each, and a callback returns where to upload it.

A small HTTP server stands in for the storage behind a presigned URL.
"""

import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict

from runtimeuse_sync import ArtifactUploadRequestMessageInterface, ArtifactUploadResult, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime

stored: Dict[str, bytes] = {}


class Storage(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        stored[self.path.partition("?")[0]] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()

    def on_artifact_upload_request(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        print(f"announced: {request.filename}")
        url = f"http://127.0.0.1:{server.server_port}/{request.filename}?signature=abc"
        return ArtifactUploadResult(presigned_url=url, content_type="text/plain")

    directory = tempfile.TemporaryDirectory()
    # Shorter waits than the defaults, for files to settle and for late files, so that the example ends soon.
    quick = LocalRuntime(root=directory.name, artifact_settle=0.2, end_session_delay=0.2)
    try:
        with directory, quick as runtime:
            result = RuntimeUseClient(runtime.ws_url, model="any").query(
                "echo '12 apples' > output/stock.txt; echo noise > output/debug.log; echo the report is written",
                artifacts_dirs=["output"],
                artifacts_ignore_content="*.log",
                on_artifact_upload_request=on_artifact_upload_request,
            )
    finally:
        server.shutdown()
        server.server_close()
    print("result:", result.text.strip())
    for path, content in stored.items():
        print(f"stored: {path} ({len(content)} bytes): {content.decode().strip()}")


if __name__ == "__main__":
    main()
