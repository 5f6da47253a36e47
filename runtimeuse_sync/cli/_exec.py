"""`runtimeuse-sync exec`: runs a command in the sandbox.

Threads: the main thread.
"""

import shlex
import sys
from typing import Any, Dict, Optional, Tuple

import click

from .._wire.request import command_request
from ..client import RuntimeUseClient
from ..messages import CommandInterface
from ..run import Run
from ._exits import FAILED, NAME, Failed
from ._options import environment_of, environment_options, runtime_options, settings_of
from ._output import CommandText, JsonLines, exit_code_of
from ._run import Stage, perform


@click.command("exec", short_help="Run a command in the sandbox.", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True)
@click.option("--cwd", metavar="DIR", help="The directory to run it in, created if missing.")
@click.option("-i", "--stdin", "with_stdin", is_flag=True, help="Read standard input to its end, and pass it on.")
@environment_options
@runtime_options
def execute(command: Tuple[str, ...], cwd: Optional[str], with_stdin: bool, **options: Any) -> int:
    """Run COMMAND by the sandbox's shell; its exit code is that of this command.

    One word is a whole command line: exec "ls | wc -l". Several are one command and its arguments: exec -- ls -l "my
    file".
    """
    settings = settings_of(options)
    environment = environment_of(options)
    line = command[0] if len(command) == 1 else " ".join(map(shlex.quote, command))
    if not line.strip():
        raise click.UsageError("the command is empty")
    first_line, pieces = _input() if with_stdin else (None, {})

    def start(client: RuntimeUseClient) -> "Run[Any]":
        interface = CommandInterface(line, env=environment.variables or None)
        keywords = {"secrets_to_redact": environment.secrets, "check": False}
        request = command_request(interface, cwd, None, first_line, pieces, None, keywords, client._defaults)
        run: Run[Any] = client._run(request)
        return run

    with Stage(settings, environment.secrets, line) as stage:
        kind = JsonLines if settings.json else CommandText
        result = perform(settings, stage, start, kind(stage.screen, stage.masking))
    if not result.results:
        raise Failed(FAILED, "the runtime has not run the command, and does not say why")
    return exit_code_of(result)


def _input() -> Tuple[str, Dict[str, str]]:
    """Returns what passes standard input on to a command: a line before it, and the variables which that reads.

    Raises:
        click.UsageError: There is no standard input, or it is too long.
    """
    from .._wire.command_input import MAX_INLINE, inline_input

    if sys.stdin is None:
        raise click.UsageError("--stdin: there is no standard input")
    data = sys.stdin.buffer.read(MAX_INLINE + 1)
    if len(data) > MAX_INLINE:
        raise click.UsageError(
            f"--stdin passes on {MAX_INLINE // 1024} KiB at most; for more, copy it first: "
            f"{NAME} cp - sandbox:FILE, and have the command read that file"
        )
    return inline_input(data)
