"""Receive messages while a run is going on, in two ways: by callbacks, and by a loop over `stream()`."""

import tempfile

from runtimeuse_sync import AssistantMessageInterface, CommandInterface, CommandOutputMessageInterface, RuntimeUseClient
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
                print("  countdown:", *message.text_blocks)
        print("  result:", run.result.text.split())


def commands_in_a_loop(client: RuntimeUseClient) -> None:
    """Output arrives in chunks that need not be whole lines, so this joins them."""
    printed = {"stdout": "", "stderr": ""}
    with client.stream_commands(["echo to stdout; echo to stderr >&2", "echo more"]) as run:
        for message in run:
            if isinstance(message, CommandOutputMessageInterface):
                printed[message.stream] += message.text
    print("  stdout:", printed["stdout"].splitlines())
    print("  stderr:", printed["stderr"].splitlines())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, LocalRuntime(root=directory) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="any")
        for show in (with_callbacks, with_a_loop, commands_in_a_loop):
            print(f"{show.__name__}:")
            show(client)
