"""What spans and metrics show of a call: names of attributes, and their values from requests, results and errors.

Nothing here returns what a call is about: no prompt, no answer, no text of a command, no output, no message of an
exception. The GenAI conventions are not stable yet, and packages with their names move them about; so the names that
this package uses stand here, as of the version that `SCHEMA_URL` names.

Threads: pure functions; each runs in its caller's thread.
"""

import re
from typing import Any, Dict, Mapping, Optional, Sequence, Union
from urllib.parse import urlsplit

from .._wire.redaction import scrub
from .._wire.request import Request
from .._wire.urls import is_secure

#: The version of OpenTelemetry's conventions that the names are from.
SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
OUTPUT_TYPE = "gen_ai.output.type"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # no password
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"
EXIT_CODE = "process.exit.code"

# Our own.
CALL = "runtimeuse.operation.name"
COMMAND_COUNT = "runtimeuse.command.count"
COMMAND_NAMES = "runtimeuse.command.names"
EXIT_CODES = "runtimeuse.command.exit_codes"
SOURCE_ID = "runtimeuse.source_id"
LEFT_EARLY = "runtimeuse.left_early"
FIRST_MESSAGE = "runtimeuse.first_message"
MESSAGE_TYPE = "runtimeuse.message.type"

#: Which attributes of a span its metrics have, too: those with few values.
OF_METRICS = (OPERATION, PROVIDER, MODEL, RESPONSE_MODEL, CALL, SERVER_ADDRESS, SERVER_PORT, ERROR_TYPE)

INVOKE_AGENT = "invoke_agent"
EXECUTE_COMMANDS = "execute_commands"

#: What operations on files are called, by their `kind`.
FILE_OPERATIONS = {
    "reading a file": "files.read",
    "writing a file": "files.write",
    "downloading": "files.download",
    "uploading": "files.upload",
    "listing a directory": "files.list",
    "looking for a file": "files.exists",
    "removing a file": "files.remove",
}

#: The most commands of a call whose names and exit codes are shown.
MOST_COMMANDS = 100

#: The most characters of a text that the runtime has chosen.
_LONGEST = 128

#: The first word of a command if it names a program; with a directory, which is left out.
_PROGRAM = re.compile(r"\s*(?:[^\s\"'`$;&|<>(){}=\\]*/)?([A-Za-z_][A-Za-z0-9_.+-]{0,31})(?=[\s;]|$)")

#: Under which names runtimes tell the tokens, in the usage of a result's metadata, or in the metadata itself: the SDKs
#: of OpenAI's agents, in JavaScript and in Python, of Anthropic's, and the API of chat completions.
_USAGE = ("usage", "tokenUsage", "token_usage")
_INPUT = ("inputTokens", "input_tokens", "promptTokens", "prompt_tokens")
_OUTPUT = ("outputTokens", "output_tokens", "completionTokens", "completion_tokens")

#: What Anthropic's `input_tokens` leaves out, and the convention's includes.
_CACHED = {
    "cache_read_input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_creation_input_tokens": "gen_ai.usage.cache_creation.input_tokens",
}

Value = Union[str, int, bool, Sequence[str], Sequence[int]]
Attributes = Dict[str, Value]


def of_server(origin: str) -> Attributes:
    """Returns the address and the port of a runtime.

    Args:
        origin: Scheme, host and port of its URL; the name of a class for a custom transport, which has neither.
    """
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:
        return {}
    if not host:
        return {}
    return {SERVER_ADDRESS: host, SERVER_PORT: port or (443 if is_secure(origin) else 80)}


def of_request(request: Request, source_id: Optional[str]) -> Attributes:
    """Returns what a request tells.

    Args:
        request: The request of a query or of commands.
        source_id: The user's name for the call, secrets masked; `None` if it has none.
    """
    attributes: Attributes = {}
    options: Any = request.options
    if is_query(request):
        attributes[OPERATION] = INVOKE_AGENT
        attributes[PROVIDER] = "runtimeuse"
        attributes[MODEL] = scrub(options.model, request.secrets)
        attributes[OUTPUT_TYPE] = "text" if options.output_format_json_schema_str is None else "json"
    else:
        attributes[CALL] = EXECUTE_COMMANDS
    texts = request.commands.commands
    if texts:
        attributes[COMMAND_COUNT] = len(texts)
        attributes[COMMAND_NAMES] = [_program(text, request.secrets) for text in texts[:MOST_COMMANDS]]
    if source_id is not None:
        attributes[SOURCE_ID] = source_id
    return attributes


def is_query(request: Request) -> bool:
    """Returns whether a request is for the agent, rather than for commands alone."""
    return request.result_type == "result_message"


def _program(text: str, secrets: Sequence[str]) -> str:
    """Returns the name of the program that a command calls first; of anything but a plain call, that of the shell."""
    found = _PROGRAM.match(scrub(text, secrets) if secrets else text)
    return found.group(1) if found else "sh"


def of_end(request: Request, result: Any, error: Optional[BaseException]) -> Attributes:
    """Returns what the end of a run tells: the tokens of a query, the exit codes of commands, the type of an error.

    Args:
        request: The run's request.
        result: Its result; `None` if it has none.
        error: What it raised; `None` if nothing.
    """
    attributes = {} if error is None else of_error(type(error))
    items = getattr(error, "results", None) or getattr(result, "results", None) or ()
    codes = [item.exit_code for item in items if _fits(item.exit_code)]
    if codes:
        attributes[EXIT_CODES] = codes[:MOST_COMMANDS]
        if len(request.commands.commands) == 1:
            attributes[EXIT_CODE] = codes[0]
    metadata = getattr(result, "metadata", None)
    if isinstance(metadata, Mapping):
        attributes.update(_usage(metadata))
        model = metadata.get("model")
        if isinstance(model, str) and 0 < len(model) <= _LONGEST:
            attributes[RESPONSE_MODEL] = scrub(model, request.secrets)
    return attributes


def of_error(kind: type) -> Attributes:
    """Returns the type of an error."""
    return {ERROR_TYPE: kind.__qualname__}


def _usage(metadata: Mapping[str, Any]) -> Attributes:
    usage = next((metadata[name] for name in _USAGE if isinstance(metadata.get(name), Mapping)), metadata)
    counts: Dict[str, int] = {}
    cached = {attribute: _count(usage, [name]) for name, attribute in _CACHED.items()}
    counts.update({attribute: count for attribute, count in cached.items() if count is not None})
    read, written = _count(usage, _INPUT), _count(usage, _OUTPUT)
    if read is not None:
        counts[INPUT_TOKENS] = read + sum(counts.values())
    if written is not None:
        counts[OUTPUT_TOKENS] = written
    attributes: Attributes = {}
    attributes.update(counts)
    return attributes


def _count(usage: Mapping[str, Any], names: Sequence[str]) -> Optional[int]:
    """Returns the first number of tokens that stands under one of the names."""
    for name in names:
        value: Any = usage.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if _fits(value) and value >= 0:
            return int(value)
    return None


def _fits(value: Any) -> bool:
    """Returns whether a value is an integer that exporters can write."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**62) <= value < 2**62
