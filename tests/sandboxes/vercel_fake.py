"""Vercel: the SDK's own HTTP client, answered by a handler in its transport's place."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2
from vercel.api import session
from vercel.sandbox.sync import SandboxCredentials, SandboxServiceOptions

from .provider import PORT, Provider, event_of_program

provider = Provider(event_of_program(), "*.vercel.test")

SESSION = {"id": "sess_1", "sourceSandboxName": "box", "projectId": "prj", "status": "running", "cwd": "/"}
SANDBOX = {"name": "box", "currentSessionId": "sess_1", "status": "running", "projectId": "prj"}
ROUTE = {"url": f"https://sb-1.vercel.test:{provider.port}", "port": PORT, "subdomain": "sb-1"}

environment: Any = {}


def answer(request: httpx2.Request) -> httpx2.Response:
    body = json.loads(request.content or b"{}")
    # Without the version of the API, which the SDK chooses.
    what = f"{request.method} {re.sub('^/api/v[0-9]+', '', request.url.path)}"
    assert request.headers["authorization"] == "Bearer token"
    if what == "POST /sandboxes":
        provider.asked.append("create")
        assert body["ports"] == [PORT]
        assert body["timeout"] == 600_000
        environment.update(body["env"])
        return httpx2.Response(200, json={"sandbox": SANDBOX, "session": SESSION, "routes": [ROUTE]})
    if what == "POST /sandboxes/sessions/sess_1/cmd":
        provider.start_runtime(" ".join([body["command"], *body["args"]]), environment)
        command = {"id": "cmd_1", "name": body["command"], "args": body["args"], "cwd": "/", "sessionId": "sess_1"}
        return httpx2.Response(200, json={"command": {**command, "startedAt": 1}})
    if what == "POST /sandboxes/sessions/sess_1/stop":
        provider.killed()
        return httpx2.Response(200, json={"session": {**SESSION, "status": "stopping"}})
    raise AssertionError(what)


credentials = SandboxCredentials(token="token", team_id="team", project_id="prj")
options = SandboxServiceOptions(credentials_factory=lambda: credentials)
with session(
    service_options=[options],
    httpx_client_factory=lambda: httpx2.Client(transport=httpx2.MockTransport(answer)),
):
    provider.run_example("on_vercel")
