"""The built-in agent `openai`: a model with a shell tool.

With OPENAI_API_KEY it asks OpenAI (or the server at OPENAI_BASE_URL); OPENAI_MODEL selects the model. Without the key,
a scripted server on this machine plays the model, so you can try this offline and for free.

Needs the OpenAI Agents SDK, on Python 3.10 or later: pip install "runtimeuse-sync[runtime,openai]"
"""

import importlib.util
import json
import os
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, List

from runtimeuse_sync import AssistantMessageInterface, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime

QUESTION = "How many lines do the .txt files here have? Use the shell."
SCHEMA = {"type": "object", "properties": {"lines": {"type": "integer"}}, "required": ["lines"]}


class ScriptedModel(BaseHTTPRequestHandler):
    """Says that it will count, counts with the shell tool, and answers with the tool's output."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answers = [message["content"] for message in request["messages"] if message["role"] == "tool"]
        if answers:
            number = answers[-1].split()[-1]
            self.stream([{"content": json.dumps({"lines": int(number)})}], "stop")
        else:
            arguments = json.dumps({"command": "cat *.txt | wc -l", "cwd": None})
            call = {"index": 0, "id": "call_1", "type": "function"}
            function = {"name": "shell", "arguments": arguments}
            self.stream(
                [{"content": "I'll count them."}, {"tool_calls": [{**call, "function": function}]}], "tool_calls"
            )

    def stream(self, deltas: List[Dict[str, Any]], reason: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta in [*deltas, {}]:
            choice = {"index": 0, "delta": delta, "finish_reason": None if delta else reason}
            self.event({"choices": [choice]})
        self.event({"choices": [], "usage": {"prompt_tokens": 80, "completion_tokens": 20, "total_tokens": 100}})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, fields: Dict[str, Any]) -> None:
        event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "scripted", **fields}
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


def ask(environment: Dict[str, str], model: str) -> None:
    def show(message: AssistantMessageInterface) -> None:
        for block in message.text_blocks:
            print("assistant:", block)

    directory = tempfile.TemporaryDirectory()
    with directory, LocalRuntime("openai", root=directory.name) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model=model)
        client.execute_commands(["printf 'a\\nb\\n' > one.txt; echo c > two.txt"])
        result = client.query(
            QUESTION,
            agent_env=environment,
            output_format_json_schema_str=json.dumps({"type": "json_schema", "schema": SCHEMA}),
            on_assistant_message=show,
            timeout=120,
        )
    print("result:", result.structured_output)
    print("tokens:", (result.metadata or {})["usage"]["totalTokens"])


def main() -> int:
    if importlib.util.find_spec("agents") is None:
        print(
            'this example needs the OpenAI Agents SDK: pip install "runtimeuse-sync[runtime,openai]"', file=sys.stderr
        )
        return 1
    if os.environ.get("OPENAI_API_KEY"):
        ask({}, os.environ.get("OPENAI_MODEL", "gpt-4.1"))
        return 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), ScriptedModel)
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()
    try:
        ask({"OPENAI_BASE_URL": f"http://127.0.0.1:{server.server_port}/v1"}, "scripted")
    finally:
        server.shutdown()
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
