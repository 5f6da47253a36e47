"""The exceptions that the client raises, as one tree.

    RuntimeUseError
    ├── AgentRuntimeError              the runtime answered with an error; .error, .metadata
    │   ├── CommandFailedError         a command exited non-zero; .results, .command, .exit_code
    │   └── ProtocolError              the runtime sent something that cannot be its protocol
    ├── CancelledException             the call was aborted
    ├── RunTimeoutError                the call's deadline passed (also a TimeoutError)
    ├── RuntimeConnectionError         could not connect, and why (also a ConnectionError)
    │   └── ConnectionLostError        lost or silent during a call (also an AgentRuntimeError)
    ├── ArtifactUploadError            late artifacts could not be uploaded; .filepaths
    └── SessionStateError              the session cannot take this call: closed, forked, or in its own callback

Every one pickles and copies with all its attributes. No threads run here.
"""

import copy
import json
from typing import Any, Dict, List, Optional, Tuple, Type

from .results import CommandResultItem


class RuntimeUseError(Exception):
    """Base of everything that this package raises on purpose, but for `TypeError` and `ValueError` on bad arguments."""

    def __reduce__(self) -> Tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: Type[RuntimeUseError], args: Tuple[Any, ...], attributes: Dict[str, Any]) -> RuntimeUseError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


def without_traceback(error: Optional[BaseException]) -> Optional[BaseException]:
    """Returns a copy of an error of ours, which knows no frames and so keeps nothing alive; any other as it is."""
    # Not of a subclass of the user's, which need not be made for it.
    if error is None or type(error).__module__ != __name__:
        return error
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    copied.__suppress_context__ = error.__suppress_context__
    return copied


class AgentRuntimeError(RuntimeUseError):
    """The runtime answered the request with an error.

    Attributes:
        error: What the runtime said.
        metadata: What it said besides, such as `error_name` and `stack`; for timeouts that the client noticed,
            `timeout_type` names the option. `None` where there is nothing.
    """

    def __init__(self, error: str, metadata: Optional[Dict[str, Any]] = None) -> None:
        super().__init__(error)
        self.error = error
        self.metadata = metadata

    def __str__(self) -> str:
        if not self.metadata:
            return self.error
        return f"{self.error}\nmetadata: {_shown(self.metadata)}"


#: Metadata nested deeper than this are not shown: turning them into text might overflow the stack.
_MAX_DEPTH = 100


def _shown(metadata: Dict[str, Any]) -> str:
    if _deeper_than(_MAX_DEPTH, metadata):
        return "(nested too deeply to be shown)"
    try:
        return json.dumps(metadata, sort_keys=True, default=str)
    except (TypeError, ValueError):
        return str(metadata)


def _deeper_than(depth: int, value: Any) -> bool:
    level = [value]
    while level and depth:
        depth -= 1
        inner: List[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, (list, tuple)):
                inner += item
        level = inner
    return bool(level)


class CommandFailedError(AgentRuntimeError):
    """A command of `execute_commands` exited non-zero.

    Attributes:
        results: What ran, in order, the failing command last.
        command: The command that failed.
        exit_code: Its exit code (-1: ended by a signal).
    """

    def __init__(
        self,
        error: str,
        metadata: Optional[Dict[str, Any]] = None,
        *,
        results: Optional[List[CommandResultItem]] = None,
        command: str = "",
        exit_code: int = -1,
    ) -> None:
        super().__init__(error, metadata)
        self.results: List[CommandResultItem] = results if results is not None else []
        self.command = command
        self.exit_code = exit_code


class ProtocolError(AgentRuntimeError):
    """The runtime sent something that cannot be its protocol, where that something decides the call's outcome."""


class CancelledException(RuntimeUseError):
    """The call was ended by `abort()`."""


class RunTimeoutError(RuntimeUseError, TimeoutError):
    """The call's `timeout` (or the time to end its session) passed.

    Attributes:
        result: What the call would have returned, where the result had come and only late artifacts were waited for;
            else `None`.
    """

    def __init__(self, message: str, *, result: Any = None) -> None:
        super().__init__(message)
        self.result = result


class RuntimeConnectionError(RuntimeUseError, ConnectionError):
    """The runtime could not be reached, and why.

    Attributes:
        status: The HTTP status of a refused WebSocket handshake; `None` where there was no HTTP answer.
    """

    def __init__(self, message: str, *, status: Optional[int] = None) -> None:
        super().__init__(message)
        self.status = status


class ConnectionLostError(RuntimeConnectionError, AgentRuntimeError):
    """The connection was lost, or the runtime fell silent, while it was needed.

    Attributes:
        error: The message.
        metadata: `{"in_flight": …}` names what was lost with it, such as `"query"` or `"command execution"`.
        result: What the call would have returned, where only the end of its session was lost; else `None`.
    """

    def __init__(self, message: str, metadata: Optional[Dict[str, Any]] = None, *, result: Any = None) -> None:
        RuntimeUseError.__init__(self, message)
        self.error = message
        self.metadata = metadata
        self.status = None
        self.result = result

    def __str__(self) -> str:
        return self.error


class ArtifactUploadError(RuntimeUseError):
    """Files that the runtime announced late could not be uploaded; raised when the session, or the one-shot, ends.

    Attributes:
        filepaths: Their paths inside the sandbox.
        result: What the call would have returned, where it is a one-shot's; else `None`.
    """

    def __init__(self, message: str, filepaths: Optional[List[str]] = None, *, result: Any = None) -> None:
        super().__init__(message)
        self.filepaths: List[str] = filepaths if filepaths is not None else []
        self.result = result


class SessionStateError(RuntimeUseError, RuntimeError):
    """The session cannot take this call: closed, opened in another process, or called from inside its own callback."""
