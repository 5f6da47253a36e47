"""A runtime in memory that runs real commands, and is as strict as the real one about what they may do.

It kills a command that prints over a MiB to stdout, leaves out the stdout of commands that fail, gives commands a stdin
that never ends, takes no command or variable of 128 KiB or more, and masks secrets chunk by chunk. It shares no code
with the package.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

from .servers import PATIENCE

Message = Dict[str, Any]

MOST_STDOUT = 1024 * 1024
LONGEST_VALUE = 128 * 1024
CHUNK = 64 * 1024


class StrictRuntime:
    """A persistent transport; each `connect` is a connection of its own.

    Args:
        root: Where commands run.
        shell: What runs them, `-c` and the command follow.
        env: The environment of the runtime; default: that of this process.
        before: Called before each command with its message, in the runtime's thread.
        most_env: The most bytes of a command's environment; `None` for what the system allows.

    Attributes:
        requests: All requests, in order.
        connections: All connections, in order.
        most_printed: The most bytes that a command has printed to stdout.
        cancelled: Set once a request was cancelled.
    """

    def __init__(
        self,
        root: Path,
        *,
        shell: Sequence[str] = ("/bin/sh",),
        env: Optional[Dict[str, str]] = None,
        before: Optional[Callable[[Message], None]] = None,
        most_env: Optional[int] = None,
    ) -> None:
        self.root = root
        self.shell = tuple(shell)
        self.env = dict(os.environ) if env is None else env
        self.before = before
        self.most_env = most_env
        self.requests: List[Message] = []
        self.connections: List[StrictConnection] = []
        self.most_printed = 0
        self.cancelled = threading.Event()

    @property
    def commands(self) -> List[Message]:
        return [command for request in self.requests for command in request["commands"]]

    def connect(self) -> StrictConnection:
        connection = StrictConnection(self)
        self.connections.append(connection)
        return connection

    def stop(self) -> None:
        for connection in self.connections:
            connection.stop()


class StrictConnection:
    """One connection: a request runs in a thread of its own, one at a time."""

    def __init__(self, runtime: StrictRuntime) -> None:
        self._runtime = runtime
        self._outgoing: queue.Queue[Optional[Message]] = queue.Queue()
        self._worker: Optional[threading.Thread] = None
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._lock = threading.Lock()
        self._cancelled = False
        self._busy = False

    # For the client.

    def send(self, message: Message) -> None:
        kind = message["message_type"]
        if kind == "cancel_message":
            self._runtime.cancelled.set()
            self._cancel()
        elif kind == "end_session_message":
            self._outgoing.put({"message_type": "end_session_confirm_message"})
            self._outgoing.put(None)
        elif kind == "command_execution_message":
            if self._busy:
                self._say_error("Received request while another is in flight!")
                return
            self._busy = True
            self._cancelled = False
            self._runtime.requests.append(message)
            self._worker = threading.Thread(target=self._work, args=(message,), name="strict-runtime", daemon=True)
            self._worker.start()
        else:
            raise AssertionError(f"unexpected: {kind}")

    def receive(self) -> Optional[Message]:
        return self._outgoing.get()

    def close(self) -> None:
        self._cancel()
        self._outgoing.put(None)

    # For the test.

    def cut(self) -> None:
        """Ends the connection without a word."""
        self.close()

    def stop(self) -> None:
        self._cancel()
        if self._worker is not None:
            self._worker.join(PATIENCE)
            assert not self._worker.is_alive(), "a command never ended"

    # In the worker.

    def _work(self, message: Message) -> None:
        results: List[Message] = []
        try:
            for command in message["commands"]:
                results.append(self._run(command, message["secrets_to_redact"]))
                if results[-1]["exit_code"] != 0 or self._cancelled:
                    break
        except OSError as error:
            said = f"spawn {error.strerror}"
            self._end(lambda: self._say_error(said))
            return
        if self._cancelled:
            self._end(lambda: self._say_error("Request cancelled"))
        else:
            self._end(
                lambda: self._outgoing.put({"message_type": "command_execution_result_message", "results": results})
            )

    def _end(self, say: Callable[[], None]) -> None:
        self._busy = False
        say()

    def _say_error(self, text: str) -> None:
        self._outgoing.put({"message_type": "error_message", "error": text, "metadata": {}})

    def _run(self, command: Message, secrets: List[str]) -> Message:
        runtime = self._runtime
        if runtime.before is not None:
            runtime.before(command)
        env = {**runtime.env, **command.get("env", {})}
        size = sum(len(name) + len(value.encode()) + 2 for name, value in env.items())
        longest = max(len(value.encode()) for value in (command["command"], *command.get("env", {}).values()))
        if longest >= LONGEST_VALUE or (runtime.most_env is not None and size > runtime.most_env):
            raise OSError(7, "E2BIG")
        shown = self._masked(command["command"], secrets)
        with self._lock:
            if self._cancelled:
                return {"command": shown, "exit_code": -1}
            process = self._process = subprocess.Popen(
                [*runtime.shell, "-c", command["command"]],
                cwd=str(runtime.root),
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        stderr = threading.Thread(target=self._pump, args=(process, "stderr", shown, secrets), daemon=True)
        stderr.start()
        printed = self._pump(process, "stdout", shown, secrets)
        stderr.join(PATIENCE)
        code = process.wait(PATIENCE)
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        runtime.most_printed = max(runtime.most_printed, len(printed))
        result: Message = {"command": shown, "exit_code": code if code >= 0 else -1}
        if code == 0 and printed:
            result["stdout"] = self._masked(printed.decode("utf-8", "replace"), secrets)
        return result

    def _pump(self, process: subprocess.Popen[bytes], stream: str, shown: str, secrets: List[str]) -> bytes:
        pipe: Any = getattr(process, stream)
        printed = b""
        while True:
            data = pipe.read1(CHUNK)
            if not data:
                return printed
            printed += data
            if stream == "stdout" and len(printed) > MOST_STDOUT:
                _kill(process)
            text = self._masked(data.decode("utf-8", "replace"), secrets)
            self._outgoing.put(
                {"message_type": "command_output_message", "stream": stream, "text": text, "command": shown}
            )

    def _masked(self, text: str, secrets: List[str]) -> str:
        for secret in secrets:
            text = text.replace(secret, "[REDACTED]")
        return text

    def _cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            process = self._process
            if process is not None and process.poll() is None:
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
