"""Puts the context of a call's span into the environment of what the call runs in the sandbox.

The global propagator says what to put: by default `traceparent`, `tracestate` and `baggage`. Each goes out under the
propagator's own name and in upper case, which OpenTelemetry's specification asks for in environments.

Threads: pure functions; each runs in its caller's thread.
"""

import re
from typing import Any, Dict, List, Mapping, Optional

from opentelemetry.context import Context
from opentelemetry.propagate import inject

from .._wire import codec
from .._wire.json_text import load_json
from .._wire.request import MAX_REQUEST_SIZE

#: Names that shells keep in the environment.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

#: The fields of requests that list commands.
_COMMANDS = ("commands", "pre_agent_invocation_commands", "post_agent_invocation_commands")


def with_context(payload: bytes, context: Context) -> bytes:
    """Returns a request that also has the context in the environments of its agent and of its commands.

    An environment in which the user has set one of the names himself, in either case, stays as it is: parts of two
    traces do not belong together. So does a request that would become too large for the runtime.

    Args:
        payload: The request, as JSON.
        context: The context.
    """
    variables = _variables(context)
    if not variables:
        return payload
    message = load_json(payload.decode())
    if message["message_type"] == "invocation_message":
        message["agent_env"] = _with_variables(message.get("agent_env"), variables)
    for name in _COMMANDS:
        commands: List[Dict[str, Any]] = message.get(name) or []
        for command in commands:
            command["env"] = _with_variables(command.get("env"), variables)
    changed = codec.encode(message)
    return changed if len(changed) <= MAX_REQUEST_SIZE else payload


def _variables(context: Context) -> Dict[str, str]:
    carrier: Dict[str, str] = {}
    inject(carrier, context)
    variables = {}
    for name, value in carrier.items():
        if "\0" not in value:
            variables[_upper(name)] = value
            if _NAME.fullmatch(name):
                variables[name] = value
    return variables


def _upper(name: str) -> str:
    upper = re.sub(r"[^A-Z0-9_]", "_", name.upper())
    return f"_{upper}" if upper[:1].isdigit() else upper


def _with_variables(env: Optional[Mapping[str, str]], variables: Mapping[str, str]) -> Dict[str, str]:
    own = dict(env or {})
    return own if any(_upper(name) in variables for name in own) else {**variables, **own}
