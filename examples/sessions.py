"""Many calls over one connection, also from many threads; a session outlives calls that fail, and a lost connection."""

import tempfile
from concurrent.futures import ThreadPoolExecutor

from runtimeuse_sync import (
    AgentRuntimeError,
    CommandFailedError,
    ConnectionLostError,
    RuntimeUseClient,
    RuntimeUseSession,
)
from runtimeuse_sync.runtime import LocalRuntime


def one_after_the_other(session: RuntimeUseSession) -> None:
    session.execute_commands(["mkdir -p notes", "echo 'buy milk' > notes/today.txt"])
    print("files:", session.query("ls notes").text.split())
    print("today:", session.query("cat notes/today.txt").text.strip())


def after_a_failure(session: RuntimeUseSession) -> None:
    try:
        session.execute_commands(["true", "exit 3", "echo never reached"])
    except CommandFailedError as error:
        ran = [item.command for item in error.results]
        print(f"commands: {error.command!r} failed with exit code {error.exit_code}; ran: {ran}")
    try:
        session.query("echo 'no such table' >&2; exit 1")
    except AgentRuntimeError as error:
        print("query:", error.error)
    try:
        session.query("sleep 30", timeout=0.2)
    except TimeoutError as error:
        print("query:", error)
    print("the session goes on:", session.query("echo yes").text.strip())


def from_threads(session: RuntimeUseSession) -> None:
    """Calls on one session take turns. For parallel calls, use the client directly, or one session per thread."""
    with ThreadPoolExecutor(4) as pool:
        squares = pool.map(lambda n: session.query(f"echo $(({n} * {n}))").text.strip(), range(5))
        print("squares:", list(squares))


def after_a_restart(directory: str) -> None:
    """The runtime is restarted between two calls: the first session tells, the second connects again."""
    runtime = LocalRuntime(root=directory).start()
    client, port = RuntimeUseClient(runtime.ws_url, model="any"), int(runtime.ws_url.rpartition(":")[2])
    with client.session() as plain, client.session(reconnect=True) as reconnecting:
        for session in (plain, reconnecting):
            print("healthy:", session.is_healthy(), session.query("echo one").text.strip())
        runtime.stop()
        runtime = LocalRuntime(root=directory, port=port).start()
        for session in (plain, reconnecting):
            try:
                print("answer:", session.query("echo two").text.strip())
            except ConnectionLostError as error:
                print("lost:", error)
    runtime.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, LocalRuntime(root=directory) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="any")
        with client.session() as session:
            one_after_the_other(session)
            after_a_failure(session)
            from_threads(session)
        print("closed:", session)
        after_a_restart(directory)
