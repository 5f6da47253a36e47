"""The program that `fake_claude.py` puts in place of `claude`: speaks its protocol, and does what it is told.

Imports little, as it is started very often.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Dict, Iterator, List

SESSION = "0b1c2d3e-0000-4000-8000-000000000001"
USAGE = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 3}


class Program:
    def __init__(self, script: Dict[str, List[Dict[str, Any]]], seen: str) -> None:
        self.script = script
        self.seen = seen
        self.turns = 0

    def main(self) -> None:
        self.note(arguments=sys.argv[3:], cwd=os.getcwd(), environment=dict(os.environ))
        if "--system-prompt-file" in sys.argv:
            with open(sys.argv[sys.argv.index("--system-prompt-file") + 1], encoding="utf-8") as file:
                self.note(system_prompt=file.read())
        for line in sys.stdin:
            message = json.loads(line)
            if message["type"] == "control_request":
                assert message["request"]["subtype"] == "initialize", message
                self.play(self.script["start"])
                answer = {"subtype": "success", "request_id": message["request_id"], "response": {"commands": []}}
                self.write(type="control_response", response=answer)
            elif message["type"] == "user":
                self.note(prompt=message["message"]["content"])
                self.write(type="system", subtype="init", session_id=SESSION, cwd=os.getcwd(), tools=["Bash"])
                self.play(self.script["steps"])

    def play(self, steps: List[Dict[str, Any]]) -> None:
        for step in steps:
            for name, value in step.items():
                getattr(self, name)(value)

    def note(self, **facts: Any) -> None:
        with open(self.seen, "a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")

    def write(self, **message: Any) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    # --- The steps.

    def says(self, texts: List[str]) -> None:
        """A message of the model."""
        self.turns += 1
        self.assistant([{"type": "text", "text": text} for text in texts])

    def says_often(self, times_and_length: List[int]) -> None:
        """Very many messages of the model, each with what a tool has returned: text of that length."""
        times, length = times_and_length
        for number in range(times):
            self.says([f"{number} ".ljust(length, "x")])
            self.write(type="user", session_id=SESSION, message={"role": "user", "content": "y" * length})

    def runs(self, command: str) -> None:
        """A message with the call of a tool, and the result of that; in a session of its own, as the real one does."""
        self.turns += 1
        use = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": command}}
        self.assistant([{"type": "thinking", "thinking": "hm", "signature": "s"}, use])
        # Its input and its output are no pipes of ours.
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            check=False,
        )
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": done.stdout.decode()}
        self.write(type="user", session_id=SESSION, message={"role": "user", "content": [result]})

    def ends(self, fields: Dict[str, Any]) -> None:
        """The result."""
        told = {"duration_ms": 1500, "duration_api_ms": 1000, "num_turns": self.turns, "total_cost_usd": 0.25}
        self.write(
            **{
                "type": "result",
                "subtype": "success",
                "is_error": False,
                "session_id": SESSION,
                "usage": USAGE,
                **told,
                **fields,
            }
        )

    def refuses(self, fields: Dict[str, Any]) -> None:
        """An answer that is an error: what it says is the result, too."""
        self.turns += 1
        self.assistant([{"type": "text", "text": fields["result"]}], error=fields.pop("error", None))
        self.ends({"is_error": True, "terminal_reason": "api_error", **fields})

    def writes(self, text: str) -> None:
        """Anything, as it is."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def message(self, fields: Dict[str, Any]) -> None:
        self.write(**fields)

    def complains(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    def waits(self, path: str) -> None:
        """Goes on when somebody has written to the named pipe."""
        with open(path, encoding="utf-8") as pipe:
            pipe.read()

    def exits(self, code: int) -> None:
        sys.stdout.flush()
        os._exit(code)

    def dies(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def ignores(self, number: int) -> None:
        import signal

        signal.signal(number, signal.SIG_IGN)

    def assistant(self, content: List[Dict[str, Any]], **more: Any) -> None:
        message = {"id": f"msg_{self.turns}", "role": "assistant", "model": "claude-scripted", "content": content}
        self.write(type="assistant", session_id=SESSION, parent_tool_use_id=None, message=message, **more)


def runs_of(seen: str) -> Iterator[Dict[str, Any]]:
    """Yields what each run has noted."""
    facts: Dict[str, Any] = {}
    with open(seen, encoding="utf-8") as file:
        for line in file:
            noted = json.loads(line)
            if "arguments" in noted and facts:
                yield facts
                facts = {}
            facts.update(noted)
    yield facts


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as read:
        Program(json.load(read), sys.argv[2]).main()
