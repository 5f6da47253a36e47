"""Get answers as instances of your own types: the schema is made of the type, and the answer is validated.

It needs pydantic: pip install "runtimeuse-sync[runtime,pydantic]"
"""

import json
import tempfile
from dataclasses import dataclass
from typing import List, Literal

from pydantic import BaseModel

from runtimeuse_sync import OutputValidationError, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime


@dataclass
class RepoStats:
    file_count: int
    char_count: int


class Finding(BaseModel):
    path: str
    line: int
    severity: Literal["minor", "major"]
    text: str


class Review(BaseModel):
    findings: List[Finding]


# The prompts are shell scripts, as the runtime's agent is a shell. A model would be asked in words.
COUNT = """
printf 'one two' > a.txt; printf 'three' > b.txt
echo "{\\"file_count\\": $(($(ls | wc -l))), \\"char_count\\": $(($(cat * | wc -c)))}"
"""


def answer(value: object) -> str:
    return f"echo '{json.dumps(value)}'"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, LocalRuntime(root=directory) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="any")
        stats = client.query(COUNT, output_type=RepoStats).parsed
        print(stats)

        # An agent answers with a JSON object. A type of any other kind is asked for as `{"value": …}`.
        text = "no line break at the end"
        found = [{"path": f"{name}.txt", "line": 1, "severity": "minor", "text": text} for name in "ab"]
        for finding in client.query(answer({"value": found}), output_type=List[Finding]).parsed:
            print(f"{finding.path}:{finding.line} [{finding.severity}] {finding.text}")
        print("verdict:", client.query(answer({"value": "approve"}), output_type=Literal["approve", "reject"]).parsed)

        # The embedded runtime checks answers by the schema itself. Not every runtime does, and a schema cannot say
        # everything that a type can, so the client checks them, too. This agent ignores the schema.
        def careless(*_: object) -> object:
            return {"findings": [{"path": "a.txt", "severity": "huge", "text": "?"}]}

        with LocalRuntime(agent=careless) as other:
            try:
                RuntimeUseClient(other.ws_url, model="any").query("Review it.", output_type=Review)
            except OutputValidationError as error:
                print("does not fit:", error)


if __name__ == "__main__":
    main()
