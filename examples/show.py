"""Watch a call while it runs: its messages go to stdout, or in a notebook to a display that is updated."""

from runtimeuse_sync import CommandFailedError, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime


def main() -> None:
    with LocalRuntime(agent="shell") as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="any")

        # The agent's messages, as they come; the result as ever.
        result = client.query("for n in 3 2 1; do echo $n; sleep 0.1; done", show=True)
        print("result:", result.text.split())

        # The output of commands. Callbacks run as well, each before its message is shown.
        sizes = []
        client.execute_commands(
            ["echo compiling", "echo testing"],
            show=True,
            on_command_output=lambda message: sizes.append(len(message.text)),
        )
        print("characters:", sum(sizes))

        # What came before a failure is shown; the error's text ends with what matters.
        try:
            client.run("echo 'no such target' >&2; exit 2", show=True)
        except CommandFailedError as error:
            print("failed:", str(error).splitlines()[-1])


if __name__ == "__main__":
    main()
