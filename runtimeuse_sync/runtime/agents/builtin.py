"""Owns the built-in agents `echo` and `shell`, and the list of all built-in agents.

Threads: each run is a task on the runtime's event loop. `shell` runs its process with `commands/processes.py`.
"""

from typing import Any, Callable, Dict, List, Optional

from ..._wire.stream_redaction import StreamRedactor
from ..commands.execution import cut_note
from ..commands.processes import ProcessRunner
from ..failures import RequestFailedError
from ..masking import Redactor
from .base import Invocation, RunFunction, asked_schema, parse_structured
from .claude import claude_agent
from .openai import openai_agent
from .sender import AsyncSender

#: How much of the end of a script's stderr an error contains, in characters.
_STDERR_LIMIT = 4000


def built_in_agents(processes: ProcessRunner, max_stdout: Optional[int]) -> Dict[str, Callable[[], RunFunction]]:
    """Returns the factories of the built-in agents, by name."""
    return {
        "claude": lambda: claude_agent(processes),
        "echo": lambda: echo,
        "openai": lambda: openai_agent(processes),
        "shell": lambda: ShellAgent(processes, max_stdout).run,
    }


async def echo(invocation: Invocation, _: AsyncSender) -> Any:
    """Returns the prompt; with a schema, the JSON object in the prompt.

    Raises:
        RequestFailedError: the prompt is not a JSON object that matches the schema.
    """
    return _result(invocation, invocation.user_prompt, "the prompt")


class ShellAgent:
    """Runs the prompt as a shell script.

    Each line of stdout is sent as an assistant message. The result is all of stdout: as text, or, with a schema, as the
    JSON object in it. An exit code other than 0 is an error, with the end of stderr in its `error_details`.

    Args:
        processes: Runs the script.
        max_stdout: The most characters of a text result; `None` is no limit.
    """

    def __init__(self, processes: ProcessRunner, max_stdout: Optional[int] = None) -> None:
        self._processes = processes
        self._max_stdout = max_stdout

    async def run(self, invocation: Invocation, sender: AsyncSender) -> Any:
        """Runs the prompt.

        Raises:
            RequestFailedError: the script failed, or its output does not match the schema.
        """
        schema = asked_schema(invocation)
        printed: List[str] = []
        errors: List[str] = []
        # Masked before it is split into lines, as a secret may span lines.
        redactor = Redactor(invocation.secrets)
        masking = {"stdout": StreamRedactor(redactor.secrets), "stderr": StreamRedactor(redactor.secrets)}
        # The pieces of the unfinished line; there may be any number of them.
        begun: List[str] = []

        async def send_lines(text: str) -> None:
            """Sends the lines that a piece of output completes."""
            *lines, rest = text.split("\n")
            for end in lines:
                line = "".join([*begun, end])
                begun.clear()
                await sender.send_assistant_message([line])
            if rest:
                begun.append(rest)

        async def on_output(stream: str, text: str) -> None:
            """Takes a piece of output."""
            if stream == "stdout":
                printed.append(text)
                await send_lines(masking["stdout"].feed(text))
            else:
                errors.append(masking["stderr"].feed(text))
                errors[:] = ["".join(errors)[-_STDERR_LIMIT:]]

        exit_code = await self._processes.run(invocation.user_prompt, None, invocation.env, on_output)
        await send_lines(masking["stdout"].flush())
        if begun:
            await sender.send_assistant_message(["".join(begun)])
        if exit_code != 0:
            raise RequestFailedError(
                f"the script failed with exit code: {exit_code}", "".join(errors) + masking["stderr"].flush()
            )
        text = "".join(printed)
        if schema is None and self._max_stdout is not None and len(text) > self._max_stdout:
            # Masked before it is cut, as a part of a secret could not be recognised.
            return redactor.text(text)[: self._max_stdout] + cut_note(self._max_stdout, len(text))
        return _result(invocation, text, "the script's output")


def _result(invocation: Invocation, text: str, what: str) -> Any:
    schema = asked_schema(invocation)
    if schema is None:
        return text
    return parse_structured(text, schema, what)
