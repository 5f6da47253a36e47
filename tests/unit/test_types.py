"""What type checkers know of the package: a type for every public name, and the types of results.

mypy and pyright run as they do for a user, on the package as it is here, where they are installed. They need no
network.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import pytest

import runtimeuse_sync

from ..support.packages import needs

ROOT = Path(runtimeuse_sync.__file__).resolve().parents[1]

#: A user's module. After each `reveal_type` stands the type, or what mypy and what pyright call it; `# error` stands
#: where both must complain, and they must complain nowhere else.
MODULE = """\
import dataclasses
import datetime
from typing import Any, Dict, List, Literal, Optional, Tuple, Type, TypedDict, TypeVar, Union

from pydantic import BaseModel, RootModel

from runtimeuse_sync import QueryOptions, RuntimeUseClient
from runtimeuse_sync.batch import Job, run_many

Kind = TypeVar("Kind")

class Stats(BaseModel):
    files: int

class Names(RootModel[List[str]]):
    pass

@dataclasses.dataclass
class Note:
    line: int

class Movie(TypedDict):
    title: str

client = RuntimeUseClient("ws://localhost", model="m")
options = QueryOptions()

reveal_type(client.query("p"))  # QueryResult
reveal_type(client.query("p", options, timeout=5))  # QueryResult
reveal_type(client.query("p", output_type=None))  # QueryResult
reveal_type(client.query("p", output_type=Stats))  # TypedQueryResult[Stats]
reveal_type(client.query("p", output_type=Stats, show=True).parsed)  # Stats
reveal_type(client.query("p", output_type=Stats).parsed)  # Stats
reveal_type(client.query("p", options, output_type=Note, timeout=5).parsed)  # Note
reveal_type(client.query("p", output_type=Movie).parsed["title"])  # str
reveal_type(client.query("p", output_type=Names).parsed)  # Names
reveal_type(client.query("p", output_type=datetime.date).parsed)  # date
reveal_type(client.query("p", output_type=List[Note]).parsed)  # list[Note]
reveal_type(client.query("p", output_type=Dict[str, Note]).parsed)  # dict[str, Note]
reveal_type(client.query("p", output_type=Tuple[int, Note]).parsed)  # tuple[int, Note]
reveal_type(client.query("p", output_type=Optional[Note]).parsed)  # Note | None
reveal_type(client.query("p", output_type=Union[Note, Stats]).parsed)  # Note | Stats
reveal_type(client.query("p", output_type=Literal["a"]).parsed)  # Literal['a']

with client.session() as session:
    reveal_type(session.query("p"))  # QueryResult
    reveal_type(session.query("p", output_type=Stats).parsed)  # Stats
    with session.stream("p", output_type=Stats) as run:
        reveal_type(run.result.parsed)  # Stats
with client.stream("p") as plain:
    reveal_type(plain)  # Run[QueryResult]
    reveal_type(plain.result)  # QueryResult
with client.stream("p", output_type=Stats) as typed:
    reveal_type(typed)  # Run[TypedQueryResult[Stats]]
    reveal_type(typed.result.parsed)  # Stats
    reveal_type(typed.result.metadata)  # dict[str, Any] | None
reveal_type(client.submit("p").result())  # QueryResult
reveal_type(client.submit("p", output_type=Stats).result().parsed)  # Stats
reveal_type(session.submit("p", output_type=List[Note]).result().parsed)  # list[Note]
with client.stream_commands(["ls"]) as commands:
    reveal_type(commands.result)  # CommandExecutionResult
reveal_type(client.submit("p"))  # RunFuture[QueryResult]
reveal_type(client.submit_commands(["ls"]).result())  # CommandExecutionResult
for outcome in run_many([Job("p"), "q"], client=client):
    reveal_type(outcome)  # Outcome
    reveal_type(outcome.result)  # QueryResult | CommandExecutionResult | None

def ask(kind: Type[Kind], known_at_run_time: Any) -> Kind:
    reveal_type(client.query("p", output_type=known_at_run_time).parsed)  # Any or Unknown
    return client.query("p", output_type=kind).parsed

reveal_type(ask(Stats, int))  # Stats
client.query("p", output_type=Stats).parsed.nothing  # error
client.query("p").parsed  # error
client.query("p", output_typ=Stats)  # error
client.query("p", show="yes")  # error
client.stream("p", show=True)  # error
client.query("p", output_type=Stats, timeout="5")  # error
client.execute_commands(["ls"], output_type=Stats)  # error
"""

#: The package is found where these tests find it. No other settings of the developer's shall matter.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}


def expected(checker: str) -> Tuple[Dict[int, str], Set[int]]:
    """Returns the types by line, and the lines with errors."""
    types: Dict[int, str] = {}
    errors = set()
    for number, line in enumerate(MODULE.splitlines(), start=1):
        code, _, comment = line.partition("  # ")
        if comment == "error":
            errors.add(number)
        elif "reveal_type(" in code:
            names = comment.split(" or ")
            types[number] = names[-1] if checker == "pyright" else names[0]
    assert len(types) > 20
    assert len(errors) == 7
    return types, errors


def plain(shown: str) -> str:
    """Returns a type without modules, and with the names that mypy has for the classes of `typing`."""
    return re.sub(r"\b(List|Dict|Tuple)\[", lambda found: found[0].lower(), re.sub(r"\b(\w+\.)+", "", shown))


def run(*command: str, where: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=str(where), env=ENVIRONMENT, capture_output=True, text=True, timeout=170
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@needs("mypy", "pydantic")
@pytest.mark.skipif(sys.version_info < (3, 10), reason="the last mypy for older Pythons does not know all of it")
def test_mypy_knows_the_types_of_results(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE, encoding="utf-8")
    printed = run("mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", "module.py", where=tmp_path)
    types = re.findall(r'^module\.py:(\d+): note: Revealed type is "(.*)"$', printed, re.MULTILINE)
    errors = {int(line) for line in re.findall(r"^module\.py:(\d+): error: ", printed, re.MULTILINE)}
    assert ({int(line): plain(shown) for line, shown in types}, errors) == expected("mypy")


def pyright(*arguments: str, where: Path) -> Any:
    return json.loads(run("pyright", "--pythonpath", sys.executable, "--outputjson", *arguments, where=where))


@needs("pyright", "pydantic")
def test_pyright_knows_the_types_of_results(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE, encoding="utf-8")
    types: Dict[int, str] = {}
    errors = set()
    for each in pyright("module.py", where=tmp_path)["generalDiagnostics"]:
        line = each["range"]["start"]["line"] + 1
        if each["severity"] == "information":
            types[line] = plain(re.findall(r'is "(.*)"$', each["message"])[0])
        else:
            errors.add(line)
    assert (types, errors) == expected("pyright")


@needs("pyright")
def test_every_public_name_has_a_type(tmp_path: Path) -> None:
    """A type that each checker would have to infer, such as that of `self.x = f()`, does not count."""
    told = pyright("--verifytypes", "runtimeuse_sync", "--ignoreexternal", where=tmp_path)["typeCompleteness"]
    assert Path(told["packageRootDirectory"]) == ROOT / "runtimeuse_sync"
    wrong: List[Any] = []
    for symbol in told["symbols"]:
        if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]:
            wrong.append((symbol["name"], [each["message"] for each in symbol["diagnostics"]]))
    assert wrong == []
    assert told["completenessScore"] == 1
    assert told["exportedSymbolCounts"]["withKnownType"] > 800
