"""A session with an agent runtime in a sandbox of e2b.

Needs: pip install e2b; the environment variables E2B_API_KEY and OPENAI_API_KEY.
"""

import contextlib
import os
from typing import Iterator

import e2b

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.sandboxes import RemoteSandbox, Sandbox, ensure_killed

RUNTIME = "npx -y runtimeuse@latest"
PORT = 8080


@contextlib.contextmanager
def e2b_sandbox() -> Iterator[Sandbox]:
    # Should nothing end it, e2b does after `timeout` seconds. Only who has the token gets to its ports.
    box = e2b.Sandbox.create(timeout=600, network={"allow_public_traffic": False})
    with ensure_killed(box.kill) as kill:
        box.commands.run(RUNTIME, background=True, envs={"OPENAI_API_KEY": os.environ["OPENAI_API_KEY"]}, timeout=600)
        headers = {"e2b-traffic-access-token": box.traffic_access_token or ""}
        yield RemoteSandbox(f"https://{box.get_host(PORT)}", headers, kill=kill)


def work(sandbox: Sandbox) -> None:
    client = RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers, model="gpt-4.1")
    client.wait_until_ready(timeout=120)
    with client.session() as session:
        print(session.run("echo hello from $(uname)").stdout, end="")
        print(session.query("Which files are in your home directory?").text)


if __name__ == "__main__":
    with e2b_sandbox() as sandbox:
        work(sandbox)
