"""The command `runtimeuse-sync`: queries, commands, files and a doctor for the command line.

    runtimeuse-sync query "What is in this repository?"
    runtimeuse-sync exec -- make test
    runtimeuse-sync cp sandbox:out/report.txt .
    runtimeuse-sync doctor wss://sandbox.example.com

Needs the extra `[cli]`: `pip install "runtimeuse-sync[cli]"`. Its packages are imported by `main`, so that the command
can say what is missing. `python -m runtimeuse_sync` is the same command.

Modules: `_app` has the command line as a whole and `_exits` its exit codes. Each subcommand is a module: `_query`,
`_exec`, `_cp`, `_serve`, `_doctor`, `_completion`. `_options` has the options that they share, `_target` makes the
client, `_prompt` reads the prompt, `_run` performs one run, `_output` writes what it sends, `_masking` masks secrets in
that, `_screen` owns stdout and stderr, `_status` the status line, `_interrupts` what Ctrl-C does. The doctor's checks
are in `_checks`, with `_opener` and `_certificate`.

Threads: importing the package starts none. On a terminal, the status line has a thread of its own (`_screen`).
"""

import sys
from typing import Optional, Sequence

__all__ = ["main"]

#: The packages of the extra.
_EXTRA = ("click", "rich")

#: The exit code if one of them is missing, and the one after Ctrl-C.
_MISSING, _INTERRUPTED = 2, 130


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs the command, and returns its exit code.

    Args:
        arguments: The words after the command's name. Default: those of the process.

    Returns:
        The code of the command that ran in the sandbox; 0 for anything else that went well; 124 after a timeout, 130
        after Ctrl-C, 141 if the reader of the output has gone, 2 for wrong usage or a missing extra, 1 for any other
        failure. What went wrong is in one line on stderr.

    Raises:
        SystemExit: A signal such as SIGTERM has ended the command.
    """
    try:
        try:
            import click  # noqa: F401  # only whether it is there
            import rich  # noqa: F401
        except ModuleNotFoundError as error:
            if error.name not in _EXTRA:
                raise
            text = f"runtimeuse-sync needs the package {error.name!r}, which is not installed: "
            sys.stderr.write(text + "pip install 'runtimeuse-sync[cli]'\n")
            return _MISSING
        from ._app import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return _INTERRUPTED
