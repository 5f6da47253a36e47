"""`runtimeuse-sync serve`: the embedded runtime as a process. Its options, output and exit codes are the runtime's own.

Threads: the event loop of the runtime, on the main thread.
"""

from typing import Any, List, Tuple

import click
from click.shell_completion import CompletionItem

from ._target import find_modules_here, wrong_usage

#: How the runtime's own help calls it.
_NAME = "runtimeuse-sync serve"


class _Serve(click.Command):
    """Completes the options that the runtime parses."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> List[CompletionItem]:  # noqa: ARG002
        from ..runtime.__main__ import option_names

        return [CompletionItem(name, help=text) for name, text in option_names() if name.startswith(incomplete)]


@click.command(
    cls=_Serve,
    short_help="Run an agent runtime, for clients to connect to.",
    # `--help` is the runtime's, too.
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def serve(arguments: Tuple[str, ...]) -> Any:
    """Run an agent runtime, for clients to connect to."""
    with wrong_usage():
        from ..runtime.__main__ import main
    find_modules_here()
    return main(list(arguments), prog=_NAME)
