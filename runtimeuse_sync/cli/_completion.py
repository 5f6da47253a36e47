"""`runtimeuse-sync completion`: the scripts by which shells complete the command, and the answers that these ask for.

The script of a shell runs the command with an environment variable set; the command then prints what fits, and nothing
else.

Threads: the main thread.
"""

import os
from typing import Optional

import click
from click.shell_completion import get_completion_class, shell_complete

#: The environment variable by which the script of a shell asks.
VARIABLE = "_RUNTIMEUSE_SYNC_COMPLETE"

_HELP = """Print the script by which a shell completes this command.

\b
bash, in ~/.bashrc:  eval "$(runtimeuse-sync completion bash)"
zsh, in ~/.zshrc:    eval "$(runtimeuse-sync completion zsh)"
fish:                runtimeuse-sync completion fish > ~/.config/fish/completions/runtimeuse-sync.fish"""

_SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print the completion script of a shell.", help=_HELP)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Prints the script."""
    root = context.find_root()
    maker = get_completion_class(shell)
    assert maker is not None, shell
    script = maker(root.command, {}, root.info_name or "", VARIABLE).source()
    from ._screen import Screen

    Screen().out(script if script.endswith("\n") else script + "\n")
    return 0


def answer(command: click.Command, name: str) -> Optional[int]:
    """Answers the script of a shell, if one asks; returns the exit code, or `None` if none asks."""
    instruction = os.environ.get(VARIABLE)
    if not instruction:
        return None
    return shell_complete(command, {}, name, VARIABLE, instruction)
