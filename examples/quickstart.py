"""A tour on one page: start a runtime in this process, ask its agent to do some work, then run commands.

The embedded runtime's default agent is a shell: the prompt is a script, and each line that it prints arrives as an
assistant message. With a runtime in a sandbox, only the URL and the prompt differ.
"""

import tempfile
import time

from runtimeuse_sync import AssistantMessageInterface, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime

PROMPT = r"""
set -e
echo "writing down the temperatures"
printf '%s\n' Bergen,8 Seville,24 Lyon,15 Gdansk,9 Athens,22 > readings.csv
sleep 0.2
echo "sorting $(($(wc -l < readings.csv))) cities, warmest first"
sort -t, -k2 -n -r readings.csv > sorted.csv
sleep 0.2
echo "writing the report"
awk -F, '{ printf "%-8s %3d C\n", $1, $2; sum += $2 } END { printf "%-8s %5.1f\n", "mean", sum / NR }' \
    sorted.csv > report.txt
"""

COMMANDS = ["ls", "cat report.txt"]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="quickstart-") as directory, LocalRuntime(root=directory) as runtime:
        print(f"Runtime    {runtime.ws_url}, in this process")
        print(f"Directory  {directory}, removed at the end")
        client = RuntimeUseClient(runtime.ws_url, model="any")
        with client.session() as session:
            print("\nQuery      the agent's messages, as they arrive")
            started = time.monotonic()

            def show(message: AssistantMessageInterface) -> None:
                for block in message.text_blocks:
                    print(f"  {time.monotonic() - started:5.2f} s   {block}", flush=True)

            result = session.query(PROMPT, on_assistant_message=show, timeout=30)
            print(f"Result     {len(result.text.splitlines())} lines of text, all of them seen above")

            print("\nCommands   in the same session, without the agent")
            for item in session.execute_commands(COMMANDS, timeout=30).results:
                print(f"  $ {item.command}   (exit code {item.exit_code})")
                for line in (item.stdout or "").splitlines():
                    print(f"    {line}")
    print("\nDone. README.md says where to go on, and examples/ has more like this.")


if __name__ == "__main__":
    main()
