"""The options that subcommands share: which runtime, which environment, how to write.

No message of these options repeats a value that may be secret, such as that of a header; nor a name given to
`--secret`, as somebody may have written the secret itself there.

Threads: pure functions.
"""

import dataclasses
import math
import os
import re
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, TypeVar

import click
from click.shell_completion import CompletionItem

from ..client import URL_VARIABLE, RuntimeUseClient

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: The agents that the embedded runtime has built in.
_AGENTS = {
    "shell": "runs the prompt as a shell script",
    "echo": "returns the prompt",
    "claude": "Claude Agent SDK",
    "openai": "OpenAI Agents SDK",
}


if TYPE_CHECKING:
    _SecondsType = click.ParamType[float]
    _AgentType = click.ParamType[str]
else:
    # Older versions of click take no type here.
    _SecondsType = _AgentType = click.ParamType


class Seconds(_SecondsType):
    """A positive number of seconds."""

    name = "seconds"

    def convert(self, value: Any, param: Optional[click.Parameter], ctx: Optional[click.Context]) -> float:
        """Returns the number; click reports what is none."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if math.isnan(seconds) or seconds <= 0:
            self.fail(f"it must be more than 0 seconds, not {value}", param, ctx)
        return seconds


class AgentName(_AgentType):
    """An agent of the embedded runtime."""

    name = "agent"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> List[CompletionItem]:  # noqa: ARG002
        """Returns the built-in agents that begin so."""
        return [CompletionItem(name, help=text) for name, text in _AGENTS.items() if name.startswith(incomplete)]


@dataclasses.dataclass(repr=False)
class Settings:
    """What the shared options say.

    Attributes:
        url: The runtime's URL; `None` for the environment's.
        local: Whether to start the embedded runtime instead.
        agent: Its agent.
        headers: The HTTP headers of the handshake.
        timeout: Seconds for the whole; `None` for no limit.
        connect_timeout: Seconds until a connection must be accepted; `None` for the client's default.
        json: Whether to write JSON, one object a line.
        quiet: Whether to write nothing but the answer or the output.
        verbose: How much to log to stderr: 0 nothing, 1 begins and ends of calls, 2 everything.
    """

    url: Optional[str]
    local: bool
    agent: Optional[str]
    headers: Dict[str, str]
    timeout: Optional[float]
    connect_timeout: Optional[float]
    json: bool
    quiet: bool
    verbose: int


@dataclasses.dataclass(repr=False)
class Project:
    """Who runs these subcommands with a client of its own, which takes the place of the environment's URL.

    Attributes:
        name: How the command is called there.
        new_client: Makes the client, with these keywords in place of its own; headers are added to its own.
    """

    name: str
    new_client: Callable[[Dict[str, Any]], RuntimeUseClient]


def project_client(settings: Settings) -> Optional[Callable[[Dict[str, Any]], RuntimeUseClient]]:
    """Returns what makes the client of the project that runs the subcommand; `None` if it is to be another client."""
    context = click.get_current_context(silent=True)
    project = None if context is None else context.find_object(Project)
    return None if project is None or settings.local or settings.url is not None else project.new_client


@dataclasses.dataclass(repr=False)
class Environment:
    """The environment variables for the agent or the command.

    Attributes:
        variables: All of them, by name.
        secrets: The values of those that must not be shown.
    """

    variables: Dict[str, str]
    secrets: List[str]


def runtime_options(function: _Function) -> _Function:
    """Adds the options that say which runtime, and how to write; `settings_of` reads them."""
    decorators = [
        click.option(
            "--url",
            metavar="URL",
            help=f"The runtime's URL, ws://, wss:// or https://.  [default: ${URL_VARIABLE}]",
        ),
        click.option("--local", is_flag=True, help="Start the embedded runtime in this directory, for this one call."),
        click.option(
            "--agent",
            type=AgentName(),
            help="Its agent: shell (default), echo, claude, openai, module:attribute.",
        ),
        click.option("--header", multiple=True, metavar="'NAME: VALUE'", help="An HTTP header to send. Repeatable."),
        click.option("--timeout", type=Seconds(), help="Seconds for all of it; then exit code 124.  [no limit]"),
        click.option(
            "--connect-timeout",
            type=Seconds(),
            help="Seconds until the runtime must accept a connection, retries included.  [10]",
        ),
        click.option("--json", is_flag=True, help="Write one JSON object a line: each message, then the result."),
        click.option("-q", "--quiet", is_flag=True, help="Write no status, and of an agent only its answer."),
        click.option("-v", "--verbose", count=True, help="Log to stderr; twice for everything."),
    ]
    return _decorated(function, decorators)


def environment_options(function: _Function) -> _Function:
    """Adds the options for the environment; `environment_of` reads them."""
    decorators = [
        click.option(
            "--env",
            multiple=True,
            metavar="NAME[=VALUE]",
            help="An environment variable for the run; without a value that of this environment. Repeatable.",
        ),
        click.option(
            "--secret",
            multiple=True,
            metavar="NAME",
            help="As --env NAME, and its value is masked in everything that is shown. Repeatable.",
        ),
    ]
    return _decorated(function, decorators)


def _decorated(function: _Function, decorators: Sequence[Callable[[_Function], _Function]]) -> _Function:
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def settings_of(options: Dict[str, Any]) -> Settings:
    """Takes the shared options out of a command's.

    Raises:
        click.UsageError: They exclude each other, or one is invalid.
    """
    names = [field.name for field in dataclasses.fields(Settings) if field.name != "headers"]
    settings = Settings(headers=_headers(options.pop("header")), **{name: options.pop(name) for name in names})
    if settings.local and settings.url is not None:
        raise click.UsageError("--local and --url exclude each other: each says which runtime")
    if settings.agent is not None and not settings.local:
        raise click.UsageError("--agent needs --local: a runtime that is running has its agent")
    known = settings.local or settings.url is not None or project_client(settings) is not None
    if not known and not os.environ.get(URL_VARIABLE):
        raise click.UsageError(f"which runtime? Pass --url, or set {URL_VARIABLE}, or start one by --local")
    return settings


def environment_of(options: Dict[str, Any]) -> Environment:
    """Takes the options for the environment out of a command's.

    Raises:
        click.UsageError: One is invalid, or names a variable that this environment does not have.
    """
    variables: Dict[str, str] = {}
    for word in options.pop("env"):
        name, equals, value = word.partition("=")
        if not name:
            raise click.UsageError("--env needs NAME=VALUE, or NAME for a variable of this environment")
        if not equals:
            if name not in os.environ:
                shown = f" {name}" if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) else " of that name"
                raise click.UsageError(f"--env: this environment has no variable{shown}")
            value = os.environ[name]
        variables[name] = value
    secrets: List[str] = []
    for number, name in enumerate(options.pop("secret"), start=1):
        if not os.environ.get(name):
            if "=" in name:
                raise click.UsageError(
                    "--secret needs the name of an environment variable alone: a command line is no place for a secret"
                )
            raise click.UsageError(
                f"--secret number {number} names a variable that this environment does not have, or that is empty"
            )
        variables[name] = os.environ[name]
        secrets.append(os.environ[name])
    return Environment(variables, secrets)


def _headers(words: Sequence[str]) -> Dict[str, str]:
    headers: Dict[str, str] = {}
    for number, word in enumerate(words, start=1):
        name, colon, value = word.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"--header number {number} is not of the form 'NAME: VALUE'")
        headers[name.strip()] = value.strip()
    return headers
