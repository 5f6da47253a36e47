"""A session with an agent runtime in a sandbox of Daytona.

Needs: pip install daytona; the environment variables DAYTONA_API_KEY and OPENAI_API_KEY.
"""

import contextlib
import os
from typing import Iterator

from daytona import CreateSandboxFromSnapshotParams, Daytona, SessionExecuteRequest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.sandboxes import RemoteSandbox, Sandbox, ensure_killed

RUNTIME = SessionExecuteRequest(command="npx -y runtimeuse@latest", run_async=True)
PORT = 8080


@contextlib.contextmanager
def daytona_sandbox() -> Iterator[Sandbox]:
    env = {"OPENAI_API_KEY": os.environ["OPENAI_API_KEY"]}
    # Should nothing end it, Daytona does after `ttl_minutes`.
    box = Daytona().create(CreateSandboxFromSnapshotParams(env_vars=env, ttl_minutes=10))
    with ensure_killed(box.delete) as kill:
        box.process.create_session("runtime")
        box.process.execute_session_command("runtime", RUNTIME)
        # The token is in the host of the URL. It must hold for as long as connections are made.
        yield RemoteSandbox(box.create_signed_preview_url(PORT, expires_in_seconds=600).url, kill=kill)


def work(sandbox: Sandbox) -> None:
    client = RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers, model="gpt-4.1")
    client.wait_until_ready(timeout=120)
    with client.session() as session:
        print(session.run("echo hello from $(uname)").stdout, end="")
        print(session.query("Which files are in your home directory?").text)


if __name__ == "__main__":
    with daytona_sandbox() as sandbox:
        work(sandbox)
