"""The built-in agent `claude`: Claude with its tools for files and commands.

With ANTHROPIC_API_KEY it asks Claude; CLAUDE_MODEL selects the model. Without the key, a script plays the program
`claude`, so you can try this offline and for free.

Needs the Claude Agent SDK, on Python 3.10 or later: pip install "runtimeuse-sync[runtime,claude]"
"""

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Dict

from runtimeuse_sync import AgentRuntimeError, AssistantMessageInterface, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime

QUESTION = "How many lines do the .txt files here have?"
SCHEMA = {"type": "object", "properties": {"lines": {"type": "integer"}}, "required": ["lines"]}

#: Says that it will count, counts with its tool for commands, and answers with the tool's output.
SCRIPTED = """\
import json, subprocess, sys

def write(**message):
    print(json.dumps(message), flush=True)

def say(**block):
    message = {"role": "assistant", "model": "scripted", "content": [block]}
    write(type="assistant", session_id="scripted", parent_tool_use_id=None, message=message)

for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "control_request":
        write(type="control_response", response={"subtype": "success", "request_id": message["request_id"]})
        continue
    say(type="text", text="I'll count them.")
    say(type="tool_use", id="1", name="Bash", input={"command": "cat *.txt | wc -l"})
    count = int(subprocess.run("cat *.txt | wc -l", shell=True, capture_output=True).stdout)
    write(type="result", subtype="success", is_error=False, session_id="scripted", num_turns=2, duration_ms=150,
          duration_api_ms=100, total_cost_usd=0.01, usage={"input_tokens": 80, "output_tokens": 20},
          structured_output={"lines": count})
"""


def ask(environment: Dict[str, str], model: str) -> int:
    def show(message: AssistantMessageInterface) -> None:
        for block in message.text_blocks:
            print("assistant:", block)

    directory = tempfile.TemporaryDirectory()
    with directory, LocalRuntime("claude", root=directory.name) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model=model)
        client.execute_commands(["printf 'a\\nb\\n' > one.txt; echo c > two.txt"])
        try:
            result = client.query(
                QUESTION,
                agent_env=environment,
                output_format_json_schema_str=json.dumps({"type": "json_schema", "schema": SCHEMA}),
                on_assistant_message=show,
                timeout=300,
            )
        except AgentRuntimeError as error:
            print(error.error, file=sys.stderr)
            return 1
    metadata = result.metadata or {}
    print("result:", result.structured_output)
    print(f"{metadata['num_turns']} turns, ${metadata['total_cost_usd']}, session {metadata['session_id']}")
    return 0


def main() -> int:
    if importlib.util.find_spec("claude_agent_sdk") is None:
        print('this example needs the Claude Agent SDK: pip install "runtimeuse-sync[runtime,claude]"', file=sys.stderr)
        return 1
    if os.environ.get("ANTHROPIC_API_KEY"):
        return ask({}, os.environ.get("CLAUDE_MODEL", "sonnet"))
    with tempfile.TemporaryDirectory() as directory:
        scripted = Path(directory, "claude")
        scripted.write_text(f"#!{sys.executable}\n{SCRIPTED}")
        scripted.chmod(0o755)
        return ask({"PATH": directory + os.pathsep + os.environ["PATH"]}, "scripted")


if __name__ == "__main__":
    sys.exit(main())
