"""Runs the commands of a request in order and streams what they print to the client.

Runs in the request's task; threads and further tasks are those of `processes.py`.
"""

from typing import Any, Dict, List, Sequence

from .messages import Command
from .outbox import Outbox
from .processes import ProcessRunner
from .redaction import Redactor, StreamRedactor


async def run_commands(
    commands: Sequence[Command], processes: ProcessRunner, outbox: Outbox, redactor: Redactor
) -> List[Dict[str, Any]]:
    """Runs the commands until one exits non-zero; returns the wire's `results` of those that ran, not yet redacted.

    Raises:
        OSError: a command's working directory cannot be made, or the shell not be started.
        ConnectionError: the client is gone.
    """
    results = []
    for command in commands:
        result = await _run(command, processes, outbox, redactor)
        results.append(result)
        if result["exit_code"] != 0:
            break
    return results


async def _run(command: Command, processes: ProcessRunner, outbox: Outbox, redactor: Redactor) -> Dict[str, Any]:
    shown = redactor.text(command.command)
    streams = {"stdout": StreamRedactor(redactor), "stderr": StreamRedactor(redactor)}
    printed: List[str] = []

    async def send(stream: str, text: str) -> None:
        if text:
            await outbox.send_redacted(
                {"message_type": "command_output_message", "stream": stream, "text": text, "command": shown}
            )

    async def on_output(stream: str, text: str) -> None:
        if stream == "stdout":
            printed.append(text)
        await send(stream, streams[stream].feed(text))

    exit_code = await processes.run(command.command, command.cwd, command.env, on_output)
    for stream, redacting in streams.items():
        await send(stream, redacting.flush())
    result: Dict[str, Any] = {"command": command.command, "exit_code": exit_code}
    if printed:
        result["stdout"] = "".join(printed)
    return result
