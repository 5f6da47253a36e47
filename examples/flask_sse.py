"""Send a run to the browser with Flask: server-sent events, and a reader that leaves ends the run.

The page is all that a browser needs. Here, the script itself is the reader, once to the end and once not.
"""

import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

from flask import Flask, Response, request
from werkzeug.serving import WSGIRequestHandler, make_server

from runtimeuse_sync import RuntimeUseClient, sse
from runtimeuse_sync.runtime import LocalRuntime

PAGE = """<!doctype html><title>A run</title><pre id="said"></pre>
<script>
  const source = new EventSource("/events?prompt=" + encodeURIComponent("echo one; sleep 1; echo two"));
  // As text, never as HTML: what an agent says may contain <script>.
  const show = (text) => document.getElementById("said").append(text + "\\n");
  source.addEventListener("assistant", (event) => show(JSON.parse(event.data).text));
  source.addEventListener("result", (event) => { source.close(); show("done"); });
  source.addEventListener("error", (event) => {
    if (!event.data) return;  // the browser's own: the connection was lost
    source.close(); show(JSON.parse(event.data).error);
  });
</script>"""


def make_app(client: RuntimeUseClient) -> Flask:
    app = Flask(__name__)

    @app.get("/")
    def page() -> str:
        return PAGE

    @app.get("/events")
    def events() -> Response:
        if "Last-Event-ID" in request.headers:
            # A browser connects again when a response ends. The run has ended with it, and must not run twice.
            return Response(status=204)
        run = client.stream(request.args["prompt"], timeout=300)
        return Response(sse.events(run), headers=dict(sse.HEADERS))

    return app


class Quiet(WSGIRequestHandler):
    def log_request(self, *_: object) -> None:
        """Logs nothing."""


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, LocalRuntime(agent="shell", root=directory) as runtime:
        app = make_app(RuntimeUseClient(runtime.ws_url, model="any"))
        server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        url = f"http://127.0.0.1:{server.port}/events?prompt="
        browse = build_opener(ProxyHandler({})).open

        with browse(url + quote("echo one; echo two")) as response:
            for line in response:
                if line.startswith((b"event:", b"data:")):
                    print(line.decode().strip())

        running = Path(directory, "running")
        script = "touch running; trap 'rm running; exit' TERM; echo begun; sleep 60 & wait"
        with browse(url + quote(script)) as response:
            while b"begun" not in response.readline():
                pass
            print("running:", running.exists())
        left = time.monotonic()
        while running.exists():
            time.sleep(0.01)
        print("ended within 2 s:", time.monotonic() - left < 2)
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
