"""The command `runtimeuse-sync` from a program, as a script or a CI job would use it: output, exit codes, JSON lines.

It needs the extra `[cli]`, and here the embedded runtime (`[runtime]`), which stands in for one in a sandbox.
"""

import json
import os
import subprocess
import sys
import tempfile

from runtimeuse_sync.runtime import LocalRuntime

COMMAND = [sys.executable, "-m", "runtimeuse_sync"]


def run(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *arguments], input=stdin, capture_output=True, text=True, check=False)


def a_query() -> None:
    print("answer:", run("query", stdin="echo $((6 * 7))").stdout.strip())


def a_command() -> None:
    done = run("exec", "--", "sh", "-c", "echo building; echo 'no such file' >&2; exit 3")
    print("exit code", done.returncode, repr(done.stdout), repr(done.stderr))


def messages_as_json() -> None:
    for line in run("query", "--json", "echo reading; echo writing").stdout.splitlines():
        message = json.loads(line)
        print(message["message_type"], message.get("text_blocks") or message["data"]["text"].split())


def files() -> None:
    print("copied:", run("cp", "-", "sandbox:notes/today.txt", stdin="buy milk\n").returncode == 0)
    print("read back:", run("cp", "sandbox:notes/today.txt", "-").stdout.strip())


def what_fails() -> None:
    for arguments in (["query", "--timeout", "0.5", "sleep 60"], ["query", "--no-such-option"]):
        done = run(*arguments)
        print("exit code", done.returncode, done.stderr.strip())


def the_doctor() -> None:
    for line in run("doctor").stdout.splitlines():
        print("doctor:", " ".join(line.split()[:2]))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, LocalRuntime(root=directory) as runtime:
        os.environ["RUNTIMEUSE_WS_URL"] = runtime.ws_url
        a_query()
        a_command()
        messages_as_json()
        files()
        what_fails()
        the_doctor()
