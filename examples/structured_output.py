"""Get answers as JSON objects that match a schema, and as your own dataclasses."""

import json
import tempfile
from dataclasses import dataclass

from runtimeuse_sync import AgentRuntimeError, QueryOptions, QueryResult, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime


@dataclass
class RepoStats:
    file_count: int
    char_count: int


SCHEMA = {
    "type": "object",
    "properties": {"file_count": {"type": "integer"}, "char_count": {"type": "integer"}},
    "required": ["file_count", "char_count"],
    "additionalProperties": False,
}

OPTIONS = QueryOptions(output_format_json_schema_str=json.dumps({"type": "json_schema", "schema": SCHEMA}))

COUNT = """
printf 'one two' > a.txt; printf 'three' > b.txt
echo "{\\"file_count\\": $(($(ls | wc -l))), \\"char_count\\": $(($(cat * | wc -c)))}"
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, LocalRuntime(root=directory) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="any")
        result = client.query(COUNT, OPTIONS)
        stats = RepoStats(**result.structured_output)
        print(stats)

        # Results are dataclasses that convert to JSON and back, for task queues, caches and fixtures.
        assert QueryResult.from_json(result.to_json()) == result
        print("as JSON:", result.to_json())

        try:
            client.query("""echo '{"file_count": "many"}'""", OPTIONS)
        except AgentRuntimeError as error:
            print("refused:", error.error)


if __name__ == "__main__":
    main()
