"""The outcome of a job, and its JSON: results and errors as plain values that cross to other processes and to files.

An error's JSON is its class and its `args`, as `type(error)(*error.args)` makes it again. From JSON only classes are
used that are known already: nothing is imported by a name that comes from a file. An error that cannot be made again
becomes a `JobError`.

Threads: plain data; nothing is shared.
"""

import builtins
import json
import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Sequence, Union

from .._wire.error_format import beginning_of, plain
from .._wire.redaction import scrub_value
from .._wire.validation import check_type
from ..errors import RuntimeUseError
from ..results import CommandExecutionResult, QueryResult
from ._jobs import Job

Result = Union[QueryResult, CommandExecutionResult]


class JobError(RuntimeUseError):
    """Stands for an error of a job that is known only by its class and text: it cannot be made again from JSON.

    Each argument but the first is an attribute of the same name.

    Args:
        message: The error's text.
        kind: The error's class, such as `"requests.exceptions.HTTPError"`; `""` if it is this one.
        source_id: The option `source_id` of the job; `None` if it had none.
    """

    _carried: ClassVar[Dict[str, Any]] = {"kind": "", "source_id": None}

    def __init__(self, message: str, kind: str = "", source_id: Optional[str] = None) -> None:
        super().__init__(message)
        self.kind = kind
        self._carry(message, kind=kind, source_id=source_id)


@dataclass
class Outcome:
    """What became of a job.

    Args:
        job: The job.
        result: The `QueryResult` of a prompt, or the `CommandExecutionResult` of commands; `None` if the job failed.
        error: What `query` or `execute_commands` raised; or what the executor says, such as a `BrokenProcessPool` if a
            worker died. `None` if the job has a result.
        seconds: How long the run took, without the wait for a free worker.
        from_journal: Whether the result is from the journal, and nothing was run. Default: `False`.
    """

    job: Job
    result: Optional[Result]
    error: Optional[BaseException]
    seconds: float
    from_journal: bool = False

    @property
    def ok(self) -> bool:
        """Whether the job has a result."""
        return self.error is None

    def to_json(self) -> str:
        """Returns the outcome as JSON text. The job in it has its secrets, but no callbacks and no logger."""
        done = done_to_dict(self.result, self.error, self.seconds, ())
        return json.dumps({"job": self.job.to_dict(), **done, "from_journal": self.from_journal})

    @classmethod
    def from_json(cls, text: Union[str, bytes, bytearray]) -> "Outcome":
        """Returns the outcome that `to_json` described.

        The error is made by its class, if that is one of this package, built in, or imported already and accepts the
        arguments; otherwise it is a `JobError`.

        Args:
            text: The JSON text.

        Raises:
            KeyError: A field is missing.
            TypeError: A field has the wrong type.
            ValueError: The text is not JSON, or a field has an invalid value.
        """
        fields = json.loads(text)
        check_type("an outcome in JSON", fields, Mapping, "an object")
        done = Done.from_dict(fields)
        job = Job.from_dict(fields["job"])
        return cls(job, done.result, done.error, done.seconds, fields.get("from_journal") is True)


@dataclass
class Done:
    """An outcome without its job."""

    result: Optional[Result]
    error: Optional[BaseException]
    seconds: float

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Done":
        """Returns what `done_to_dict` described; raises `KeyError`, `TypeError` or `ValueError` if it is invalid."""
        result, error, seconds = fields["result"], fields["error"], fields["seconds"]
        check_type("seconds", seconds, (int, float), "a number")
        if (result is None) == (error is None):
            raise ValueError("an outcome has either a result or an error")
        made = None if error is None else _error_from_dict(error)
        return cls(None if result is None else _result_from_dict(result), made, float(seconds))


def done_to_dict(
    result: Optional[Result], error: Optional[BaseException], seconds: float, secrets: Sequence[str]
) -> Dict[str, Any]:
    """Returns an outcome without its job as JSON values; masks `secrets` in the error."""
    described = None if error is None else _error_to_dict(error, secrets)
    return {"result": None if result is None else _result_to_dict(result), "error": described, "seconds": seconds}


def _result_to_dict(result: Result) -> Dict[str, Any]:
    kind = "query" if isinstance(result, QueryResult) else "commands"
    return {"type": kind, **result.to_dict(encode_json=True)}


def _result_from_dict(fields: Any) -> Result:
    check_type("result", fields, Mapping, "an object")
    kinds: Dict[str, Any] = {"query": QueryResult, "commands": CommandExecutionResult}
    if fields.get("type") not in kinds:
        raise ValueError('the type of a result must be "query" or "commands"')
    rest = {name: value for name, value in fields.items() if name != "type"}
    result: Result = kinds[fields["type"]].from_dict(rest)
    return result


def _error_to_dict(error: BaseException, secrets: Sequence[str]) -> Dict[str, Any]:
    kind = type(error)
    described = {
        "module": kind.__module__,
        "type": kind.__qualname__,
        "args": plain(list(error.args)),
        "text": beginning_of(plain(error) or kind.__qualname__, 2000),
    }
    masked: Dict[str, Any] = scrub_value(described, secrets)
    return masked


def _error_from_dict(fields: Any) -> BaseException:
    check_type("error", fields, Mapping, "an object")
    module, name, arguments = fields["module"], fields["type"], fields["args"]
    check_type("args", arguments, list, "a list")
    kind = _class_of(module, name)
    if kind is not None:
        try:
            error: BaseException = kind(*arguments)
            return error
        except Exception:  # whatever a class that is not ours makes of them
            pass
    return JobError(str(fields.get("text", name)), f"{module}.{name}")


def _class_of(module: str, name: str) -> Optional[Any]:
    """Returns the class of an error if it is known already."""
    if module.startswith("runtimeuse_sync."):
        kinds: List[Any] = [RuntimeUseError]
        for kind in kinds:
            if kind.__qualname__ == name:
                return kind
            kinds += kind.__subclasses__()
    found = getattr(builtins if module == "builtins" else sys.modules.get(module), name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None
