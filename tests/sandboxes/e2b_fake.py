"""e2b: the SDK's own HTTP and Connect requests, answered by a server in the place of its API and of its sandboxes."""

from __future__ import annotations

import io
import os
from typing import Any, Iterator

from e2b.envd.process.process_connect import ProcessSync, ProcessWSGIApplication
from e2b.envd.process.process_pb import ProcessEvent, StartResponse
from protobuf import Oneof

from .provider import Provider, event_of_program, json_api, serve

provider = Provider(event_of_program(), "*.e2b.test")
TOKEN = "t0ken-0f-traffic"
provider.wanted = f"e2b-traffic-access-token: {TOKEN}\r\n"


def answer(method: str, path: str, environ: Any, body: Any) -> Any:
    what = f"{method} {path.replace('/v2/', '/')}"
    assert environ["HTTP_X_API_KEY"] == os.environ["E2B_API_KEY"]
    if what == "POST /sandboxes":
        provider.asked.append("create")
        assert body["timeout"] == 600
        assert body["network"] == {"allowPublicTraffic": False}
        return {
            "templateID": "base",
            "sandboxID": "box",
            "clientID": "client",
            "envdVersion": "0.4.0",
            "domain": f"e2b.test:{provider.port}",
            "trafficAccessToken": TOKEN,
        }
    if what == "DELETE /sandboxes/box":
        provider.killed()
        return None
    provider.asked.append(f"unknown: {what}")
    raise LookupError(what)


class Processes(ProcessSync):
    """The sandbox's own service: starts processes, and tells what becomes of them for as long as they run."""

    def start(self, request: Any, ctx: Any) -> Iterator[StartResponse]:  # the signature of services
        # `bash -l -c COMMAND`
        provider.start_runtime(request.process.args[-1], request.process.envs)
        started = ProcessEvent.StartEvent(pid=7)
        yield StartResponse(event=ProcessEvent(event=Oneof("start", started)))
        provider.ended.wait()


api = json_api(answer, "201 Created")
processes = ProcessWSGIApplication(Processes())


def application(environ: Any, start_response: Any) -> Any:
    if not environ["PATH_INFO"].startswith("/process.Process/"):
        return api(environ, start_response)
    if environ.get("HTTP_TRANSFER_ENCODING") == "chunked":
        environ["wsgi.input"] = io.BytesIO(b"".join(chunks(environ["wsgi.input"])))
    return processes(environ, start_response)


def chunks(body: Any) -> Iterator[bytes]:
    size = int(body.readline(), 16)
    while size:
        yield body.read(size)
        body.readline()
        size = int(body.readline(), 16)
    body.readline()


os.environ["E2B_API_KEY"] = "e2b_" + "0" * 40
os.environ["E2B_API_URL"] = os.environ["E2B_SANDBOX_URL"] = serve(application)
provider.run_example("on_e2b")
