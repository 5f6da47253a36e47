"""What an agent is given and may return, and how one is found and run.

An agent is a function `(invocation, sender)`, or an object with such a method `run`:

- a plain one runs in a thread of its own (`runtimeuse-agent`) and gets a `Sender`, whose methods block. It is told of a
  cancel by `invocation.cancelled` and may ignore it: its request ends when it returns;
- an `async` one runs as a task on the runtime's event loop, which it must not block, and gets an `AsyncSender`, whose
  methods are awaited. A cancel cancels its task.

It returns a `str`, a `dict`, a `TextResult`, a `StructuredOutputResult`, or a pair of one of these and a dict of
metadata; an exception ends its request with an `error_message`.
"""

import asyncio
import functools
import importlib
import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Dict, List, Mapping, Optional, Sequence, Union

from ..results import StructuredOutputResult, TextResult
from .cancellation import Cancelled
from .environment import environment_with
from .failures import RequestFailedError
from .outbox import Outbox
from .senders import AsyncSender, Sender
from .workers import WorkerExit, Workers

#: A logger that masks the request's secrets.
if TYPE_CHECKING:
    AgentLogger = Union[logging.Logger, logging.LoggerAdapter[Any]]
else:  # generic in stubs only before Python 3.11, where nobody could ask for the types of what names it
    AgentLogger = Union[logging.Logger, logging.LoggerAdapter]

RunFunction = Callable[[Any, Any], Any]
#: What users hand over: a name, a function, an object with `run`, or a class of such objects.
AgentSpec = Union[str, RunFunction, object]


@dataclass(frozen=True)
class Invocation:
    """What an agent is asked to do.

    Attributes:
        user_prompt: The prompt.
        system_prompt: The system prompt.
        model: The model's name.
        output_format: What the client asks the result to be: any JSON, as it came, but mostly
            `{"type": "json_schema", "schema": {…}}`; `None` where text will do.
        env: The environment variables that the client sends for the agent (not the runtime's own).
        secrets: What is masked in all that is sent.
        cancelled: Whether the run was cancelled: `.is_set()`, `.wait(timeout)`.
        logger: Logs with the secrets masked.
        root: The directory that the runtime works in.
    """

    user_prompt: str
    system_prompt: str
    model: str
    output_format: Any
    env: Mapping[str, str]
    secrets: Sequence[str]
    cancelled: Cancelled
    logger: AgentLogger
    root: str

    def __repr__(self) -> str:
        # Neither prompt nor environment nor secrets belong into somebody's log.
        return f"Invocation(model={self.model!r}, structured={self.output_format is not None})"

    @property
    def output_schema(self) -> Optional[Dict[str, Any]]:
        """The JSON schema of the result; `None` where text will do, or the output format is no schema.

        An object that does not say that it is of the type `json_schema` is taken for the schema itself.
        """
        asked = self.output_format
        if isinstance(asked, dict) and asked.get("type") == "json_schema":
            asked = asked.get("schema")
        return asked if isinstance(asked, dict) else None


def load_agent(spec: AgentSpec, built_in: Mapping[str, Callable[[], RunFunction]]) -> RunFunction:
    """Returns the function to run for what the user named.

    Raises:
        ValueError: no such built-in, and not `module:attribute`.
        ImportError: the module cannot be imported, for whatever reason, or has no such attribute, or the agent needs a
            missing package.
        TypeError: what was found is no agent, or a class that cannot be called without arguments.
    """
    found: Any = spec
    if isinstance(spec, str):
        if spec in built_in:
            return built_in[spec]()
        found = _import(spec, built_in)
    if inspect.isclass(found):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise TypeError(f"the agent {spec!r} cannot be made: {type(error).__name__}: {error}") from error
    # What one takes and returns is checked when it runs.
    for run in (getattr(found, "run", None), found):
        if callable(run):
            function: RunFunction = run
            return function
    raise TypeError(f"{spec!r} is no agent: neither a function nor an object with a method `run`")


def _import(spec: str, built_in: Mapping[str, Any]) -> Any:
    module, colon, attribute = spec.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"unknown agent {spec!r}: use {', '.join(sorted(built_in))}, or module:attribute")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        # A script that is no module may do anything when it is imported, also leave the program.
        raise ImportError(
            f"the agent's module {module!r} cannot be imported: {type(error).__name__}: {error}", name=module
        ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ImportError(f"module {module!r} has no {attribute!r}")
        found = getattr(found, name)
    return found


async def run_agent(run: RunFunction, invocation: Invocation, outbox: Outbox, workers: Workers) -> Dict[str, Any]:
    """Runs an agent to its end and returns its `result_message`.

    Raises:
        TypeError: it returned what no agent may return.
        WorkerExit: it asked the program to exit.
        Exception: whatever it raised.
    """
    if _is_async(run):
        sender = AsyncSender(outbox)
        try:
            result = await _contained(run(invocation, sender))
        finally:
            sender.close()
    else:
        blocking = Sender(outbox, asyncio.get_running_loop())
        try:
            result = await workers.run("runtimeuse-agent", run, invocation, blocking)
        finally:
            await blocking.close()
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError("a plain agent returned an awaitable: declare it with `async def`")
    return _result_message(result)


def _is_async(run: Any) -> bool:
    while isinstance(run, functools.partial):
        run = run.func
    return inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(type(run).__call__)


async def _contained(running: Awaitable[Any]) -> Any:
    try:
        return await running
    except (SystemExit, KeyboardInterrupt) as error:
        # From a task these would end the runtime's whole event loop.
        raise WorkerExit(f"{type(error).__name__}: {error}") from error


def _result_message(result: Any) -> Dict[str, Any]:
    metadata: Any = {}
    if isinstance(result, tuple) and len(result) == 2:
        result, metadata = result
        if not isinstance(metadata, Mapping):
            raise TypeError(f"an agent's metadata must be a dict, not {type(metadata).__name__}")
    data: Dict[str, Any]
    if isinstance(result, str):
        data = {"type": "text", "text": result}
    elif isinstance(result, TextResult):
        data = {"type": "text", "text": result.text}
    elif isinstance(result, StructuredOutputResult):
        data = {"type": "structured_output", "structured_output": result.structured_output}
    elif isinstance(result, dict):
        data = {"type": "structured_output", "structured_output": result}
    else:
        raise TypeError(
            "an agent must return a str, a dict, a TextResult or a StructuredOutputResult, "
            f"or a pair of one and a dict; not {type(result).__name__}"
        )
    return {"message_type": "result_message", "data": data, "metadata": dict(metadata)}


def agent_environment(invocation: Invocation) -> Dict[str, str]:
    """Returns the runtime's own environment, but for its token, with the client's variables over it."""
    return environment_with(invocation.env)


def asked_schema(invocation: Invocation) -> Optional[Dict[str, Any]]:
    """Returns the JSON schema of the result; `None` where text will do.

    Raises:
        RequestFailedError: the client asks for something that is no JSON schema.
    """
    schema = invocation.output_schema
    if schema is None and invocation.output_format is not None:
        raise RequestFailedError(
            'the output format is no JSON schema: neither {"type": "json_schema", "schema": {…}} nor a schema itself'
        )
    return schema


def schema_errors(value: Any, schema: Dict[str, Any]) -> List[str]:
    """Returns what is wrong with a value by a JSON schema, each with its place.

    Raises:
        ImportError: `jsonschema` is not installed.
        jsonschema.SchemaError: the schema itself is wrong.
    """
    from ._extras import needs_extra

    with needs_extra():
        import jsonschema

    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return [f"{error.json_path}: {error.message}" for error in kind(schema).iter_errors(value)]
