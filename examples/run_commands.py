"""Runs single commands as `subprocess.run` does, with the client's defaults. Needs no network and no key."""

import tempfile
from datetime import timedelta

from runtimeuse_sync import CommandFailedError, RunTimeoutError, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime


def main() -> None:
    with tempfile.TemporaryDirectory() as root, LocalRuntime(agent="shell", root=root) as runtime:
        # Every option can be a default. Leaving the context cancels whatever is still in flight.
        with RuntimeUseClient(runtime.ws_url, timeout=timedelta(seconds=30)) as client:
            item = client.run("sort -n | tail -n 1", input="3\n20\n100\n")
            print("largest:", (item.stdout or "").strip())

            print("in a directory:", (client.run("basename $PWD", cwd="reports").stdout or "").strip())

            try:
                client.run("echo half done; echo 'disk is full' >&2; exit 2")
            except CommandFailedError as error:
                print("failed:", error.exit_code, (error.stderr or "").strip())

            print("asked not to raise:", client.run("exit 2", check=False).exit_code)

            try:
                client.run("echo so far; exec sleep 60", timeout=1)
            except RunTimeoutError as error:
                print("in time:", (error.results[-1].stdout or "").strip())


if __name__ == "__main__":
    main()
