"""Receive messages while a run is going on: by callbacks, by loops over messages or lines, or when it suits you."""

import tempfile

from runtimeuse_sync import (
    AssistantMessageInterface,
    CommandInterface,
    CommandOutputMessageInterface,
    RunTimeoutError,
    RuntimeUseClient,
)
from runtimeuse_sync.runtime import LocalRuntime


def on_assistant_message(message: AssistantMessageInterface) -> None:
    for block in message.text_blocks:
        print(f"  assistant: {block}")


def on_command_output(message: CommandOutputMessageInterface) -> None:
    print(f"  {message.stream} of {message.command!r}: {message.text}", end="")


def with_callbacks(client: RuntimeUseClient) -> None:
    """One call; the callbacks run in this thread, in order of arrival."""
    client.query(
        "echo reading; echo thinking; echo answering",
        pre_agent_invocation_commands=[CommandInterface("echo getting ready")],
        on_assistant_message=on_assistant_message,
        on_command_output=on_command_output,
    )


def with_a_loop(client: RuntimeUseClient) -> None:
    """You iterate over the messages; leaving the block early would cancel the run."""
    with client.stream("for n in 3 2 1; do echo $n; done") as run:
        for message in run:
            if isinstance(message, AssistantMessageInterface):
                print("  countdown:", message.text)
        print("  result:", run.result.text.split())


def commands_by_lines(client: RuntimeUseClient) -> None:
    """Output arrives in chunks that may end anywhere; `lines` puts the lines together."""
    with client.stream_commands(["printf 'half'; sleep 0.1; echo ' and half'", "echo oops >&2"]) as run:
        for line in run.lines():
            print(f"  {line.stream}: {line.text}")


def beside_something_else(client: RuntimeUseClient) -> None:
    """`next` returns in time, so that you can do something else meanwhile."""
    turns = 0
    with client.stream("sleep 0.5; echo ready") as run:
        while True:
            try:
                message = run.next(timeout=0.05)
            except RunTimeoutError:
                raise
            except TimeoutError:
                turns += 1  # The run goes on: draw the next frame, read the keyboard, …
                continue
            if message is None:
                break
            if isinstance(message, AssistantMessageInterface):
                print("  assistant:", message.text)
    print("  did something else meanwhile:", turns > 0)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, LocalRuntime(root=directory) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="any")
        for show in (with_callbacks, with_a_loop, commands_by_lines, beside_something_else):
            print(f"{show.__name__}:")
            show(client)
