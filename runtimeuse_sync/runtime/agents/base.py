"""What an agent is given and may return, and how one is found and run.

An agent is a function `(invocation, sender)`, or an object with such a method `run`:

- a plain one runs in a thread of its own (`runtimeuse-agent`) and gets a `Sender`, whose methods block. It is told of a
  cancel by `invocation.cancelled` and may ignore it: its request ends when it returns;
- an `async` one runs as a task on an event loop that is for agents only (`loop.py`), and gets an `AsyncSender`,
  whose methods are awaited. A cancel cancels its task. One that blocks holds up the other `async` agents.

The built-in ones run on the runtime's own event loop.

It returns a `str`, a `dict`, a `TextResult`, a `StructuredOutputResult`, or a pair of one of these and a dict of
metadata; an exception ends its request with an `error_message`.
"""

import asyncio
import functools
import importlib
import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from ...results import StructuredOutputResult, TextResult
from ..commands.environment import environment_with
from ..failures import RequestFailedError
from ..outbox import Outbox
from ..workers import Workers
from .cancellation import Cancelled
from .loop import AgentLoop
from .outcome import AgentFailedError, Telling
from .relay import Relay
from .sender import AsyncSender, RelayedAsyncSender, Sender

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


class Agent(NamedTuple):
    """What to run, and whether it is one of the runtime's own."""

    run: RunFunction
    built_in: bool = False


def load_agent(spec: AgentSpec, built_in: Mapping[str, Callable[[], RunFunction]]) -> Agent:
    """Returns what to run for what the user named.

    Raises:
        ValueError: no such built-in, and not `module:attribute`.
        ImportError: the module cannot be imported, for whatever reason, or has no such attribute, or the agent needs a
            missing package.
        TypeError: what was found is no agent, or a class that cannot be called without arguments.
    """
    found: Any = spec
    if isinstance(spec, str):
        if spec in built_in:
            return Agent(built_in[spec](), built_in=True)
        found = _import(spec, built_in)
    if inspect.isclass(found):
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise TypeError(f"the agent {spec!r} cannot be made: {type(error).__name__}: {error}") from error
    # What one takes and returns is checked when it runs.
    for run in (getattr(found, "run", None), found):
        if callable(run):
            return Agent(run)
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


async def run_agent(
    agent: Agent, invocation: Invocation, outbox: Outbox, workers: Workers, loop: AgentLoop, telling: Telling
) -> bytes:
    """Runs an agent to its end and returns its `result_message` as it is sent.

    Whatever belongs to the agent is looked at in its own thread: what it returned, what it raised.

    Raises:
        AgentFailedError: it did not come to a result.
        RuntimeError: its thread cannot be started.
        ImportError: a built-in one needs a missing package; likewise whatever else a built-in one raises.
    """
    if agent.built_in:
        own = AsyncSender(outbox)
        try:
            result = await agent.run(invocation, own)
        finally:
            own.close()
        return telling.result(_result_message(result))
    relay = Relay(outbox, asyncio.get_running_loop())
    try:
        if _is_async(agent.run):
            sender = RelayedAsyncSender(relay, outbox.redactor)
            told = await loop.run(lambda: _run_async(agent.run, invocation, sender, telling))
        else:
            blocking = Sender(relay, outbox.redactor)
            told = await workers.run("runtimeuse-agent", _run_plain, agent.run, invocation, blocking, telling)
    finally:
        await relay.close()
    if isinstance(told, AgentFailedError):
        raise told
    return told


def _run_plain(
    run: RunFunction, invocation: Invocation, sender: Sender, telling: Telling
) -> "Union[bytes, AgentFailedError]":
    try:
        result = run(invocation, sender)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError("a plain agent returned an awaitable: declare it with `async def`")
        return telling.result(_result_message(result))
    except BaseException as error:  # in this thread, all that is raised is the agent's
        return telling.failure(error)


async def _run_async(
    run: RunFunction, invocation: Invocation, sender: AsyncSender, telling: Telling
) -> "Union[bytes, AgentFailedError]":
    try:
        return telling.result(_result_message(await run(invocation, sender)))
    except asyncio.CancelledError:
        # Where it was cancelled from outside, nobody looks at this.
        return telling.failure(RequestFailedError("the agent cancelled itself"))
    except BaseException as error:  # on this loop, all that is raised is an agent's
        return telling.failure(error)


def _is_async(run: Any) -> bool:
    while isinstance(run, functools.partial):
        run = run.func
    return inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(type(run).__call__)


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
    from ..extras import needs_extra

    with needs_extra():
        import jsonschema

    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return [f"{error.json_path}: {error.message}" for error in kind(schema).iter_errors(value)]
