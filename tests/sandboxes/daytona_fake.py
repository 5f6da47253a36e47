"""Daytona: the SDK's own HTTP requests, answered by a server in its API's place."""

from __future__ import annotations

import os
from typing import Any, Dict

from .provider import PORT, Provider, event_of_program, json_api, serve

provider = Provider(event_of_program(), "*.daytona.test")
environment: Dict[str, str] = {}
TOKEN = "a1b2c3d4e5f6g7h8"


def sandbox(state: str) -> Dict[str, Any]:
    return {
        "id": "box",
        "organizationId": "org",
        "name": "box",
        "user": "daytona",
        "env": environment,
        "labels": {},
        "public": False,
        "networkBlockAll": False,
        "kvm": False,
        "target": "eu",
        "cpu": 1,
        "gpu": 0,
        "memory": 1,
        "disk": 3,
        "state": state,
        "toolboxProxyUrl": f"{os.environ['DAYTONA_API_URL']}/toolbox",
    }


def answer(method: str, path: str, environ: Any, body: Any) -> Any:
    what = f"{method} {path}"
    if path.startswith("/socket.io"):
        raise LookupError("no events here")
    assert environ["HTTP_AUTHORIZATION"] == "Bearer key"
    if what == "POST /sandbox":
        provider.asked.append("create")
        assert body["ttlMinutes"] == 10
        environment.update(body["env"])
        return sandbox("started")
    if what == "POST /toolbox/box/process/session":
        assert body == {"sessionId": "runtime"}
        return None
    if what == "POST /toolbox/box/process/session/runtime/exec":
        assert body["runAsync"] is True
        provider.start_runtime(body["command"], environment)
        return {"cmdId": "cmd"}
    if what == f"GET /sandbox/box/ports/{PORT}/signed-preview-url":
        assert environ["QUERY_STRING"] == "expiresInSeconds=600"
        url = f"https://{PORT}-{TOKEN}.daytona.test:{provider.port}"
        return {"sandboxId": "box", "port": PORT, "token": TOKEN, "url": url}
    if what == "DELETE /sandbox/box":
        provider.killed()
        return sandbox("destroyed")
    provider.asked.append(f"unknown: {what}")
    raise LookupError(what)


os.environ["DAYTONA_API_URL"] = serve(json_api(answer))
os.environ["DAYTONA_API_KEY"] = "key"
provider.run_example("on_daytona")
