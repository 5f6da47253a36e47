"""`manage.py runtimeuse`: the subcommands of `runtimeuse-sync`, with the settings of an alias.

    python manage.py runtimeuse doctor
    python manage.py runtimeuse --alias other query "What is 2 + 2?"

It needs the extra `[cli]`, and `serve` the extra `[runtime]`. It runs without the system checks: the doctor is there
for projects in which something is wrong.

Threads: the main thread, and those of the subcommands.
"""

import argparse
import os
import sys
from typing import Any, Dict, List, Mapping, Optional, Tuple
from urllib.parse import parse_qs, urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from ...._wire.urls import is_loopback
from ....client import URL_VARIABLE, RuntimeUseClient
from ..._bases import BaseCommand
from ..._clients import new_client
from ..._settings import DEFAULT_ALIAS, arguments, settings_of

#: The environment variable with the token of a runtime that is served.
_TOKEN_VARIABLE = "RUNTIMEUSE_TOKEN"

#: How many words a subcommand and one option without its value are.
_ONE_OPTION = 2

_SUBCOMMANDS = "doctor, query, exec, cp or serve, and its arguments; SUBCOMMAND --help tells which there are"


class Command(BaseCommand):
    """Runs a subcommand. Its exit code is that of `runtimeuse-sync`."""

    help = "Talks to the agent runtime of an alias in the setting RUNTIMEUSE, or runs one (serve)."
    requires_system_checks: List[str] = []  # noqa: RUF012  # as the base class has it

    def add_arguments(self, parser: Any) -> None:
        """Adds the options that come before the subcommand; all after it belongs to that."""
        parser.add_argument("--alias", default=DEFAULT_ALIAS, help='The alias in RUNTIMEUSE (default: "default").')
        parser.add_argument("words", nargs=argparse.REMAINDER, metavar="SUBCOMMAND …", help=_SUBCOMMANDS)

    def handle(self, *, alias: str, words: List[str], **_options: Any) -> None:
        """Runs the subcommand.

        Raises:
            CommandError: Something is missing or wrong; or, where another program calls this command, it failed.
            SystemExit: It failed, and has said why. The code is the subcommand's.
        """
        try:
            import click  # noqa: F401  # only whether it is there
            import rich  # noqa: F401
        except ModuleNotFoundError as error:
            raise CommandError(
                f"it needs the package {error.name!r}, which is not installed: pip install 'runtimeuse-sync[cli]'"
            ) from error
        if not words:
            raise CommandError(f"it needs a subcommand: {_SUBCOMMANDS}")
        alias, words = _alias_after(alias, words)
        from ....cli._app import run_for
        from ....cli._options import Project

        try:
            settings_of(alias)
            if words[0] == "serve":
                words = _as_served(arguments(alias), words)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error

        def client(more: Dict[str, Any]) -> RuntimeUseClient:
            try:
                return new_client(alias, more)
            except ImproperlyConfigured as error:
                # What the subcommands say of a wrong argument, in one line.
                raise ValueError(str(error)) from error

        code = run_for(Project("manage.py runtimeuse", client), words)
        if code and getattr(self, "_called_from_command_line", False):
            sys.exit(code)
        if code:
            raise CommandError(f"runtimeuse {words[0]} has failed with the exit code {code}", returncode=code)


def _alias_after(alias: str, words: List[str]) -> Tuple[str, List[str]]:
    """Returns the alias and the other words: `--alias` may also be the first word after the subcommand."""
    option, equals, value = words[1].partition("=") if len(words) > 1 else ("", "", "")
    if option != "--alias" or (not equals and len(words) == _ONE_OPTION):
        return alias, words
    return (value, [words[0], *words[2:]]) if equals else (words[2], [words[0], *words[3:]])


def _as_served(keywords: Mapping[str, Any], words: List[str]) -> List[str]:
    """Returns the words of `serve`, with the address and the token that clients of the alias expect.

    What the words say themselves takes precedence. An address on another host is nothing that can be served here.
    """
    url = keywords.get("ws_url") or os.environ.get(URL_VARIABLE) or ""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "http") or not is_loopback(parts.hostname or ""):
        return words
    token = _token(parts.query, keywords.get("headers"))
    if token is not None and not os.environ.get(_TOKEN_VARIABLE):
        # Not as an argument, which everybody on the machine could read.
        os.environ[_TOKEN_VARIABLE] = token
    address = ["--host", parts.hostname or "", "--port", str(parts.port or 80)]
    return [words[0], *address, *words[1:]]


def _token(query: str, headers: Optional[Mapping[str, str]]) -> Optional[str]:
    for name, value in (headers or {}).items():
        kind, _, token = value.partition(" ")
        if name.lower() == "authorization" and kind.lower() == "bearer" and token:
            return token
    return parse_qs(query).get("token", [None])[0]
