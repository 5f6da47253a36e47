"""A session with an agent runtime in a sandbox of Vercel.

Needs: pip install vercel; VERCEL_TOKEN, VERCEL_TEAM_ID and VERCEL_PROJECT_ID, or `vercel env pull`; and OPENAI_API_KEY.
"""

import contextlib
import os
from typing import Iterator

from vercel.sandbox.sync import create_sandbox

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.sandboxes import RemoteSandbox, Sandbox, ensure_killed

RUNTIME = ("npx", ["-y", "runtimeuse@latest"])
PORT = 8080


@contextlib.contextmanager
def vercel_sandbox() -> Iterator[Sandbox]:
    env = {"OPENAI_API_KEY": os.environ["OPENAI_API_KEY"]}
    # Should nothing end it, Vercel does after `execution_time_limit` seconds.
    box = create_sandbox(ports=[PORT], env=env, execution_time_limit=600, persistent=False)
    with ensure_killed(box.stop) as kill:
        box.create_process(*RUNTIME)
        yield RemoteSandbox(next(route.url for route in box.routes if route.port == PORT), kill=kill)


def work(sandbox: Sandbox) -> None:
    client = RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers, model="gpt-4.1")
    client.wait_until_ready(timeout=120)
    with client.session() as session:
        print(session.run("echo hello from $(uname)").stdout, end="")
        print(session.query("Which files are in your home directory?").text)


if __name__ == "__main__":
    with vercel_sandbox() as sandbox:
        work(sandbox)
