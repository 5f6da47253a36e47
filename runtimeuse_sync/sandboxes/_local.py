"""The embedded runtime in a process of its own, on this machine.

The process ends with the block, and with this program however that ends, SIGKILL included: it stops when its stdin
ends, and this process holds the only other end of that pipe, the lifeline. A process that is forked off this one
inherits that end, and closes it at once, so that it does not keep the runtime alive. Ctrl-C in the terminal reaches
only this process, since the runtime has a session of its own: calls are cancelled in order first.

States: new, then running, then ended; never again running.

Threads: `start` and `kill` run in the user's threads, `kill` in one at a time; the thread of `_output.py` reads what
the process prints.
"""

import json
import os
import secrets
import subprocess
import sys
import threading
import weakref
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type, Union

from .._interrupts import surely, undone_on_failure
from .._wire import validation as check
from ..errors import RuntimeUseError
from ._output import Output

#: The environment variable that the runtime takes its token from. It is in no list of processes.
_TOKEN_VARIABLE = "RUNTIMEUSE_TOKEN"

#: Finds modules where this process finds them, as an agent in a thread of this process would.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from runtimeuse_sync.runtime.__main__ import main; sys.exit(main(prog='local_process'))"
)

#: For how many seconds the runtime may stop in order once its stdin has ended. Its own limits are 5 s for requests, and
#: one more for its tasks. Then a signal tells it, and it has the second time.
_STOP_LIMIT = 15.0
_LAST_LIMIT = 5.0

#: For how many seconds to wait for the end of the output of a process that has ended.
_OUTPUT_LIMIT = 5.0


class SandboxError(RuntimeUseError):
    """A sandbox could not be started. The message says why."""


class LocalProcess:
    """The embedded runtime in a process of its own; `local_process` makes it. It is a `Sandbox`.

    It is no protection: clients' commands and agents run with the rights of this process.
    """

    def __init__(self, arguments: List[str], environment: Dict[str, str], start_timeout: Optional[float]) -> None:
        self._arguments = arguments
        self._environment = environment
        self._start_timeout = start_timeout
        self._token = secrets.token_urlsafe(24)
        self._lock = threading.RLock()
        self._pid = 0
        #: The descriptor of the pipe's end, which the process lives on; -1 for none.
        self._lifeline = -1
        self._process: Optional[subprocess.Popen[str]] = None
        self._output: Optional[Output] = None
        self._ended = False

    @property
    def ws_url(self) -> str:
        """The URL for clients, on this machine only; it contains no token.

        Raises:
            RuntimeError: The process is not running: it was not started, or was ended.
        """
        output = self._output
        if output is None or output.url is None or self._ended:
            raise RuntimeError("the runtime is not running: use local_process() in a `with` statement")
        return output.url

    @property
    def headers(self) -> Dict[str, str]:
        """The headers for clients, with the token that lets them in; it is made anew for each process."""
        return {"Authorization": f"Bearer {self._token}"}

    def kill(self) -> None:
        """Ends the process: it cancels all requests and stops; after 20 s it is killed. May be called again.

        In a process that was forked off the one that started it, this has no effect.
        """
        if os.getpid() != self._pid:
            return
        surely(self._end)

    def __enter__(self) -> "LocalProcess":
        if self._pid:
            raise RuntimeError("local_process() can be used once only: call it again for another process")
        self._pid = os.getpid()
        undone_on_failure(self._start, self._end)
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.kill()

    def __repr__(self) -> str:
        output = self._output
        state = "not running" if output is None or output.url is None or self._ended else output.url
        return f"<{type(self).__name__} {state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a LocalProcess cannot be pickled: pass its ws_url and headers to the other process instead")

    def _start(self) -> None:
        if not sys.executable:
            raise SandboxError("the runtime's process could not be started: sys.executable does not name a Python")
        path = [os.path.abspath(entry) for entry in sys.path]
        command = [sys.executable, "-c", _PROGRAM, json.dumps(path), "--until-eof", *self._arguments]
        _processes.add(self)
        stdin, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                command,
                env={**self._environment, _TOKEN_VARIABLE: self._token},
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                universal_newlines=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise SandboxError(f"the runtime's process could not be started: {sys.executable!r}: {reason}") from error
        finally:
            os.close(stdin)
        assert self._process.stdout is not None
        output = Output(self._process.stdout)
        output.start()
        self._output = output
        if not output.announced.wait(self._start_timeout):
            raise SandboxError(f"the runtime did not start within {self._start_timeout:g} s{_said(output)}")
        if output.url is None:
            code = self._process.wait()
            ended = f"the signal {-code}" if code < 0 else f"the exit code {code}"
            raise SandboxError(f"the runtime did not start: its process ended with {ended}{_said(output)}")

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            self._cut_lifeline()
            process, output = self._process, self._output
            if process is not None:
                # No signal beside the end of its stdin. It would kill a runtime that has just stopped, and handles no
                # signals any more; what that has printed but not yet written would be lost.
                if output is None or output.url is None:
                    process.terminate()
                if not _ends_within(process, _STOP_LIMIT):
                    process.terminate()
                    if not _ends_within(process, _LAST_LIMIT):
                        process.kill()
                        process.wait()
                if output is None:
                    assert process.stdout is not None
                    process.stdout.close()
                else:
                    output.join(_OUTPUT_LIMIT)
            _processes.discard(self)

    def _cut_lifeline(self) -> None:
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)

    def _let_go(self) -> None:
        """In a forked child: lets go of the parent's process."""
        self._cut_lifeline()
        if self._process is not None:
            # Or its finalizer would warn of a process that still runs, and which is not this one's to wait for.
            self._process.returncode = 0


def local_process(
    agent: str = "shell",
    *,
    root: Union[str, "os.PathLike[str]", None] = None,
    env: Optional[Mapping[str, str]] = None,
    arguments: Sequence[str] = (),
    start_timeout: Optional[check.Seconds] = 60.0,
) -> LocalProcess:
    """Returns the embedded runtime in a process of its own, for a `with` statement: the sandbox on a laptop.

    Entering starts it, and returns when it listens on a free port of this machine. It ends when the block is left, and
    with this program, even if that is killed. What it prints is logged: its log records by their own loggers, all else
    by the logger `runtimeuse_sync.sandboxes` at INFO.

    It is no protection: clients' commands and agents run with the rights of this process. Nobody else on this machine
    gets in: clients need the token in `sandbox.headers`. Needs the extra `[runtime]`.

    Args:
        agent: The runtime's agent: `"shell"` (default), another built-in one, or `"module:attribute"`. Modules are
            found where this process finds them.
        root: The directory where commands and agents run (default: the current one).
        env: Further environment variables of the process, and so of all commands and agents.
        arguments: Further options of its command line, such as `["--heartbeat-interval", "5"]`; `python -m
            runtimeuse_sync.runtime --help` lists them.
        start_timeout: The most seconds until it listens (default 60; `None`: no limit).

    Raises:
        SandboxError: Entering: the runtime did not start. The message has what it says: the extra is not installed,
            there is no such agent or directory, an option is invalid.
        TypeError: An argument has the wrong type; the message names it.
        ValueError: An argument has an invalid value; the message names it.

    Examples:
        >>> with local_process() as sandbox:
        ...     client = RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers, model="any")
        ...     print(client.run("uname").stdout)
    """
    if callable(agent):
        raise TypeError(
            "agent must be a name such as 'module:attribute': a function cannot cross to another process; "
            "runtimeuse_sync.runtime.LocalRuntime takes it"
        )
    check.check_text("agent", agent)
    check.check_env("env", env)
    check.check_str_list("arguments", arguments)
    seconds = check.seconds(start_timeout)
    check.check_seconds("start_timeout", seconds)
    options = ["--port", "0", *arguments, "--agent", agent]
    if root is not None:
        check.check_type("root", root, (str, os.PathLike), "a path (str or os.PathLike)")
        options += ["--root", os.fspath(root)]
    return LocalProcess(options, {**os.environ, **(env or {})}, seconds)


def _ends_within(process: "subprocess.Popen[str]", seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _said(output: Output) -> str:
    said = output.last_lines()
    return f"; it says: {said}" if said else ""


#: The processes that run. A forked child closes its copies of the pipes that keep them alive.
_processes: "weakref.WeakSet[LocalProcess]" = weakref.WeakSet()


def _let_go_of_all() -> None:
    for process in list(_processes):
        process._let_go()
    _processes.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_of_all)
