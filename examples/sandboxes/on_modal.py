"""A session with an agent runtime in a sandbox of Modal.

Needs: pip install modal; `modal setup`, or MODAL_TOKEN_ID and MODAL_TOKEN_SECRET; and OPENAI_API_KEY.
"""

import contextlib
import os
from typing import Iterator

import modal

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.sandboxes import RemoteSandbox, Sandbox, ensure_killed

RUNTIME = ["npx", "-y", "runtimeuse@latest"]
PORT = 8080


@contextlib.contextmanager
def modal_sandbox() -> Iterator[Sandbox]:
    app = modal.App.lookup("runtimeuse", create_if_missing=True)
    image = modal.Image.from_registry("node:22", add_python="3.12")
    secret = modal.Secret.from_dict({"OPENAI_API_KEY": os.environ["OPENAI_API_KEY"]})
    # Should nothing end it, Modal does after `timeout` seconds.
    box = modal.Sandbox.create(*RUNTIME, app=app, image=image, secrets=[secret], encrypted_ports=[PORT], timeout=600)
    with ensure_killed(box.terminate) as kill:
        yield RemoteSandbox(box.tunnels()[PORT].url, kill=kill)


def work(sandbox: Sandbox) -> None:
    client = RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers, model="gpt-4.1")
    client.wait_until_ready(timeout=120)
    with client.session() as session:
        print(session.run("echo hello from $(uname)").stdout, end="")
        print(session.query("Which files are in your home directory?").text)


if __name__ == "__main__":
    with modal_sandbox() as sandbox:
        work(sandbox)
