"""Typed output with a real connection and real processes: the schema that the agent sees, and late artifacts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, List, Optional

import pytest

from runtimeuse_sync import AgentRuntimeError, OutputValidationError

from ..support.builders import BOTH, caller_of, client_of
from ..support.packages import needs
from ..support.storage import Storage
from .conftest import StartRuntime

pytestmark = needs("pydantic")


@dataclasses.dataclass
class Stats:
    files: int
    names: List[str]
    inner: Optional[Stats] = None


FITS = """echo '{"files": 1, "names": ["x"], "inner": {"files": 0, "names": []}}'"""


@BOTH
def test_the_shell_agent(start: StartRuntime, in_session: bool) -> None:
    with caller_of(client_of(start()), in_session) as caller:
        result = caller.query(FITS, output_type=Stats)
        assert result.parsed == Stats(1, ["x"], Stats(0, []))
        assert caller.query("""echo '{"value": [1, 2]}'""", output_type=List[int]).parsed == [1, 2]
        assert caller.query("""echo '{"value": null}'""", output_type=Optional[Stats]).parsed is None
        # The embedded runtime itself refuses what is not valid by the schema.
        with pytest.raises(AgentRuntimeError, match="schema"):
            caller.query("echo '{}'", output_type=Stats)
        assert caller.query(FITS, output_type=Stats).parsed.files == 1


def test_what_an_agent_is_asked_for(start: StartRuntime) -> None:
    seen: List[Any] = []

    def agent(invocation: Any, sender: Any) -> Any:
        seen.append(invocation.output_schema)
        return {"value": ["x"]}

    assert client_of(start(agent)).query("p", output_type=List[str]).parsed == ["x"]
    assert seen == [
        {
            "type": "object",
            "properties": {"value": {"type": "array", "items": {"type": "string"}}},
            "required": ["value"],
            "additionalProperties": False,
        }
    ]


@BOTH
def test_artifacts_are_uploaded_though_the_answer_does_not_fit(
    start: StartRuntime, storage: Storage, tmp_path: Path, in_session: bool
) -> None:
    def agent(invocation: Any, sender: Any) -> Any:
        (tmp_path / "out" / "late").write_text("late", encoding="utf-8")
        return {"files": "many"}

    client = client_of(start(agent))
    with caller_of(client, in_session) as caller, pytest.raises(OutputValidationError) as caught:
        caller.query("p", output_type=Stats, artifacts_dirs=["out"], on_artifact_upload_request=storage.upload_result)
    assert [problem.path for problem in caught.value.errors] == ["files", "names"]
    assert storage.stored == {"/late": b"late"}
