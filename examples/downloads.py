"""Let the runtime download files before the work begins: a plain file, an archive, and one that does not exist.

A small HTTP server stands in for the place where the files are.
"""

import io
import tempfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict

from runtimeuse_sync import AgentRuntimeError, RuntimeEnvironmentDownloadableInterface, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        script = zipfile.ZipInfo("tools/count.sh")
        # An executable script: Unix permissions are kept.
        script.external_attr = 0o755 << 16
        opened.writestr(script, "#!/bin/sh\nwc -l < cities.csv\n")
    return buffer.getvalue()


files: Dict[str, bytes] = {"/cities.csv": b"Seville\nBergen\nLagos\n", "/tools.zip": archive()}


class Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = files.get(self.path.partition("?")[0])
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


def show(client: RuntimeUseClient, base: str) -> None:
    def item(path: str) -> RuntimeEnvironmentDownloadableInterface:
        return RuntimeEnvironmentDownloadableInterface(download_url=base + path, working_dir="data")

    done = client.execute_commands(
        ["ls data data/tools", "cd data && tools/count.sh"],
        pre_execution_downloadables=[item("/cities.csv?signature=abc"), item("/tools.zip")],
    )
    for result in done.results:
        print(f"{result.command}: {(result.stdout or '').split()}")

    answer = client.query("cat data/cities.csv | sort | head -1", pre_agent_downloadables=[item("/cities.csv")])
    print("the agent says:", answer.text.strip())

    try:
        client.query("true", pre_agent_downloadables=[item("/no-such-file.csv")])
    except AgentRuntimeError as error:
        print("error:", error.error)


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()
    directory = tempfile.TemporaryDirectory()
    try:
        with directory, LocalRuntime(root=directory.name) as runtime:
            show(RuntimeUseClient(runtime.ws_url, model="any"), f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
