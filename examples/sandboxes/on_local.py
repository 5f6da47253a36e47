"""A session with an agent runtime on this machine: what the other examples do, in a process instead of a sandbox.

Run: python examples/sandboxes/on_local.py
"""

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.sandboxes import Sandbox, local_process


def work(sandbox: Sandbox) -> None:
    client = RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers, model="gpt-4.1")
    client.wait_until_ready(timeout=120)
    with client.session() as session:
        print(session.run("echo hello from $(uname)").stdout, end="")
        print(session.query("echo $((6 * 7))").text, end="")


if __name__ == "__main__":
    with local_process() as sandbox:
        work(sandbox)
