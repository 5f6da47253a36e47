"""The command line as a whole: the subcommands, and what becomes of their outcomes.

Threads: the main thread.
"""

import errno
from typing import Any, Callable, Sequence

import click

from .. import __version__
from ..errors import RuntimeUseError
from ._completion import answer, completion
from ._cp import copy
from ._doctor import doctor
from ._exec import execute
from ._exits import NAME, WRONG_USAGE, exit_of
from ._options import Project
from ._query import query
from ._screen import OutputClosed, OutputFailed, Screen
from ._serve import serve


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        Screen().out(f"{NAME} {__version__}\n")
        context.exit()


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, invoke_without_command=True
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
)
@click.pass_context
def command_line(context: click.Context) -> Any:
    """Talk to a RuntimeUse agent runtime: ask its agent, run commands, copy files.

    The runtime is at --url, or at the environment's RUNTIMEUSE_WS_URL; or --local starts one in this directory.

    Exit codes: that of a command that ran in the sandbox; 124 after a timeout, 130 after Ctrl-C (once cancels and
    waits, twice leaves), 141 if nobody reads the output any more, 2 for wrong usage, 1 for any other failure.
    """
    if context.invoked_subcommand is None:
        Screen().err(context.get_help() + "\n")
        return WRONG_USAGE
    return 0


for each in (query, execute, copy, serve, doctor, completion):
    command_line.add_command(each)


@click.group(context_settings=command_line.context_settings, add_help_option=True)
def of_a_project() -> None:
    """Ask the agent of a project's runtime, run commands, copy files.

    The runtime is the project's, unless --url names another one, or --local starts one in this directory.
    """


for each in (query, execute, copy, serve, doctor):
    of_a_project.add_command(each)


def run_for(project: Project, words: Sequence[str]) -> int:
    """Runs a subcommand for a project, and returns the exit code."""
    return _exit_code(lambda: _invoked(of_a_project, project.name, words, obj=project))


def run(words: Sequence[str]) -> int:
    """Runs the command line, and returns the exit code.

    Not by `click.Command.main`, which has exit codes of its own for a closed pipe and for Ctrl-C.
    """

    def answered_or_run() -> int:
        answered = answer(command_line, NAME)
        return _invoked(command_line, NAME, words) if answered is None else answered

    return _exit_code(answered_or_run)


def _invoked(group: click.Group, name: str, words: Sequence[str], **more: Any) -> int:
    with group.make_context(name, list(words), **more) as context:
        code: int = group.invoke(context)
    return code


def _exit_code(body: Callable[[], int]) -> int:
    """Returns the exit code of what `body` does, and says what has failed."""
    try:
        return body()
    except (Exception, KeyboardInterrupt) as error:
        code, line = exit_of(_of_stdout(error))
        if line is not None:
            Screen().line(f"{NAME}: {line}")
        return code


def _of_stdout(error: BaseException) -> BaseException:
    """Returns an exception, or in place of one that a help text could not be written, how `Screen` calls that."""
    if not isinstance(error, OSError) or isinstance(error, RuntimeUseError):
        return error
    Screen().discard_stdout()
    if isinstance(error, BrokenPipeError):
        return OutputClosed("stdout")
    return OutputFailed(f"cannot write to stdout: {error.strerror or error}") if error.errno == errno.ENOSPC else error
