"""`runtimeuse-sync exec`: runs a command in the sandbox.

Threads: the main thread.
"""

import shlex
from typing import Any, Optional, Tuple

import click

from ..client import RuntimeUseClient
from ..messages import CommandInterface
from ..run import Run
from ._exits import FAILED, Failed
from ._options import environment_of, environment_options, runtime_options, settings_of
from ._output import CommandText, JsonLines, exit_code_of
from ._run import Stage, perform


@click.command("exec", short_help="Run a command in the sandbox.", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True)
@click.option("--cwd", metavar="DIR", help="The directory to run it in, created if missing.")
@environment_options
@runtime_options
def execute(command: Tuple[str, ...], cwd: Optional[str], **options: Any) -> int:
    """Run COMMAND by the sandbox's shell; its exit code is that of this command.

    One word is a whole command line: exec "ls | wc -l". Several are one command and its arguments: exec -- ls -l "my
    file".
    """
    settings = settings_of(options)
    environment = environment_of(options)
    line = command[0] if len(command) == 1 else " ".join(map(shlex.quote, command))
    if not line.strip():
        raise click.UsageError("the command is empty")

    def start(client: RuntimeUseClient) -> "Run[Any]":
        return client.stream_commands(
            [CommandInterface(line, cwd=cwd, env=environment.variables or None)],
            secrets_to_redact=environment.secrets,
            check=False,
        )

    with Stage(settings, environment.secrets, line) as stage:
        kind = JsonLines if settings.json else CommandText
        result = perform(settings, stage, start, kind(stage.screen, stage.masking))
    if not result.results:
        raise Failed(FAILED, "the runtime has not run the command, and does not say why")
    return exit_code_of(result)
