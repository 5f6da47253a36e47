"""Finds and runs an agent; defines its arguments and its results.

An agent is a function `(invocation, sender)`, or an object with such a method `run`. It returns a `str`, a `dict`, a
`TextResult`, a `StructuredOutputResult`, or a pair of one of these and a dict of metadata. An exception ends the
request with an `error_message`.

Threads:

- A plain agent runs in a thread of its own (`runtimeuse-agent`) and gets a `Sender`, whose methods block. A cancel sets
  `invocation.cancelled`, which the agent may ignore: its request ends when it returns.
- An `async` agent runs as a task on the agents' event loop (`loop.py`) and gets an `AsyncSender`, whose methods are
  awaited. A cancel cancels its task. An agent that blocks delays the other `async` agents.
- The built-in agents run on the runtime's event loop.
"""

import asyncio
import functools
import importlib
import inspect
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, NamedTuple, Optional, Sequence, Union

from ...results import StructuredOutputResult, TextResult
from ..commands.environment import environment_with
from ..extras import needs_extra
from ..failures import RequestFailedError
from ..outbox import Outbox
from ..workers import Workers
from .cancellation import Cancelled
from .loop import AgentLoop
from .outcome import AgentFailedError, OutcomeEncoder
from .relay import Relay
from .sender import AsyncSender, RelayedAsyncSender, Sender

#: A logger that masks the request's secrets.
if TYPE_CHECKING:
    AgentLogger = Union[logging.Logger, logging.LoggerAdapter[Any]]
else:  # `LoggerAdapter` is generic only in stubs before Python 3.11; `typing.get_type_hints` would fail there
    AgentLogger = Union[logging.Logger, logging.LoggerAdapter]

RunFunction = Callable[[Any, Any], Any]
#: An agent as users specify it: its name, a function, an object with `run`, or a class of such objects.
AgentSpec = Union[str, RunFunction, object]


@dataclass(frozen=True)
class Invocation:
    """One request to an agent.

    Args:
        user_prompt: The prompt.
        system_prompt: The system prompt.
        model: The model's name.
        output_format: The result's format as the client sent it: any JSON, usually
            `{"type": "json_schema", "schema": {…}}`; `None` for text.
        env: The environment variables that the client sent for the agent; the runtime's own are not in it.
        secrets: The texts that are masked in every message.
        cancelled: The cancel flag of the run: `.is_set()`, `.wait(timeout)`.
        logger: A logger that masks the secrets.
        root: The runtime's root directory.
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
        # Prompts, environment and secrets must not get into logs.
        return f"Invocation(model={self.model!r}, structured={self.output_format is not None})"

    @property
    def output_schema(self) -> Optional[Dict[str, Any]]:
        """The JSON schema of the result; `None` for text, or if the output format is not a schema.

        An object without `"type": "json_schema"` is taken as the schema itself.
        """
        asked = self.output_format
        if isinstance(asked, dict) and asked.get("type") == "json_schema":
            asked = asked.get("schema")
        return asked if isinstance(asked, dict) else None


class Agent(NamedTuple):
    """The function to run, and whether the agent is a built-in one."""

    run: RunFunction
    built_in: bool = False


def load_agent(spec: AgentSpec, built_in: Mapping[str, Callable[[], RunFunction]]) -> Agent:
    """Returns the agent that a user has specified.

    Args:
        spec: The agent, or its name.
        built_in: The factories of the built-in agents, by name.

    Raises:
        ValueError: The name is neither a built-in agent's nor `module:attribute`.
        ImportError: The module cannot be imported or has no such attribute, or the agent needs a missing package.
        TypeError: The object is not an agent, or is a class that cannot be called without arguments.
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
            raise TypeError(f"the agent {spec!r} cannot be created: {type(error).__name__}: {error}") from error
    # Its parameters and its result are checked when it runs.
    for run in (getattr(found, "run", None), found):
        if callable(run):
            return Agent(run)
    raise TypeError(f"{spec!r} is not an agent: expected a function or an object with a method `run`")


def _import(spec: str, built_in: Mapping[str, Any]) -> Any:
    module, colon, attribute = spec.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"unknown agent {spec!r}: use {', '.join(sorted(built_in))} or module:attribute")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        # A script that is not meant as a module may do anything on import, `sys.exit()` included.
        raise ImportError(
            f"the agent's module {module!r} cannot be imported: {type(error).__name__}: {error}", name=module
        ) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ImportError(f"module {module!r} has no {attribute!r}")
        found = getattr(found, name)
    return found


async def run_agent(
    agent: Agent, invocation: Invocation, outbox: Outbox, workers: Workers, loop: AgentLoop, encoder: OutcomeEncoder
) -> bytes:
    """Runs an agent and returns its encoded `result_message`.

    The result or exception of a user's agent is encoded in the agent's own thread.

    Raises:
        AgentFailedError: A user's agent raised an exception, or returned an invalid result.
        RuntimeError: The agent's thread cannot be started.
        Exception: Whatever a built-in agent raised, such as `ImportError` for a missing package.
    """
    if agent.built_in:
        own = AsyncSender(outbox)
        try:
            result = await agent.run(invocation, own)
        finally:
            own.close()
        return encoder.result(_result_message(result))
    relay = Relay(outbox, asyncio.get_running_loop())
    try:
        if _is_async(agent.run):
            sender = RelayedAsyncSender(relay, outbox.redactor)
            outcome = await loop.run(lambda: _run_async(agent.run, invocation, sender, encoder))
        else:
            blocking = Sender(relay, outbox.redactor)
            outcome = await workers.run("runtimeuse-agent", _run_plain, agent.run, invocation, blocking, encoder)
    finally:
        await relay.close()
    if isinstance(outcome, AgentFailedError):
        raise outcome
    return outcome


def _run_plain(
    run: RunFunction, invocation: Invocation, sender: Sender, encoder: OutcomeEncoder
) -> "Union[bytes, AgentFailedError]":
    try:
        result = run(invocation, sender)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise TypeError("a plain agent returned an awaitable: declare it with `async def`")
        return encoder.result(_result_message(result))
    except BaseException as error:  # in this thread, every exception is the agent's
        return encoder.failure(error)


async def _run_async(
    run: RunFunction, invocation: Invocation, sender: AsyncSender, encoder: OutcomeEncoder
) -> "Union[bytes, AgentFailedError]":
    try:
        return encoder.result(_result_message(await run(invocation, sender)))
    except asyncio.CancelledError:
        # After a cancel from outside, this is not used.
        return encoder.failure(RequestFailedError("the agent cancelled itself"))
    except BaseException as error:  # on this loop, every exception is an agent's
        return encoder.failure(error)


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
    """Returns the environment for an agent's processes.

    It is the runtime's own environment without the runtime's token, updated with the client's variables.

    Args:
        invocation: The request to the agent.
    """
    return environment_with(invocation.env)


def asked_schema(invocation: Invocation) -> Optional[Dict[str, Any]]:
    """Returns the JSON schema of the result; `None` for text.

    Raises:
        RequestFailedError: The output format is not a JSON schema.
    """
    schema = invocation.output_schema
    if schema is None and invocation.output_format is not None:
        raise RequestFailedError(
            "the output format is not a JSON schema: expected an object, either the schema itself or "
            '{"type": "json_schema", "schema": {…}}'
        )
    return schema


def parse_structured(text: str, schema: Dict[str, Any], source: str) -> Dict[str, Any]:
    """Returns the structured output that a JSON text holds.

    Args:
        text: The text.
        schema: The JSON schema that the output must match.
        source: A description of the text for error messages, such as "the prompt".

    Raises:
        RequestFailedError: The text is not JSON, does not match the schema, or is not an object. All violations of the
            schema are in its `details`, each with its JSON path.
        ImportError: `jsonschema` is not installed.
        jsonschema.SchemaError: the schema is invalid.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestFailedError(f"{source} is not JSON, which the output format requires") from None
    with needs_extra():
        import jsonschema

    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    violations = [f"{error.json_path}: {error.message}" for error in kind(schema).iter_errors(value)]
    if violations:
        raise RequestFailedError(f"{source} does not match the schema: {violations[0]}", "\n".join(violations))
    if not isinstance(value, dict):
        raise RequestFailedError(f"{source} must be a JSON object")
    return value
