"""The exceptions that the client raises, as one tree.

    RuntimeUseError
    ├── AgentRuntimeError              the runtime answered with an error; .error, .metadata
    │   ├── CommandFailedError         a command exited non-zero; .results, .command, .exit_code, .stderr, .stdout
    │   └── ProtocolError              the runtime sent something that cannot be its protocol
    ├── CancelledException             the call was aborted
    ├── RunTimeoutError                the call's deadline passed (also a TimeoutError)
    ├── RuntimeConnectionError         could not connect, and why (also a ConnectionError)
    │   └── ConnectionLostError        lost or silent during a call (also an AgentRuntimeError)
    ├── ArtifactUploadError            late artifacts could not be uploaded; .filepaths
    └── SessionStateError              the session cannot take this call: closed, forked, or in its own callback

All have `source_id`: the option of the call that raised, or `None`. What a call had received when it failed is in
`results` and `assistant_texts` of the errors of the runtime, of the connection, of timeouts and of aborts.

Every one pickles and copies with all its attributes. `args` has them, too, as plain JSON values, so that
`type(error)(*error.args)` is the same error again, even if its `args` have been JSON meanwhile: job queues do this.
`str` is for people. No threads run here.
"""

import copy
from typing import Any, ClassVar, Dict, List, Optional, Tuple, Type

from ._error_args import MAX_DEPTH, deeper_than, items_of, plain, result_of, texts_of
from ._error_text import beginning_of, details_of, end_of
from .results import CommandResultItem


class RuntimeUseError(Exception):
    """Base of everything that this package raises on purpose, but for `TypeError` and `ValueError` on bad arguments.

    Attributes:
        source_id: The `source_id` of the call that raised it; `None` where it had none, or no call raised it.
    """

    source_id: Optional[str] = None

    #: The attributes that the constructor takes after its first argument, in its order, with their defaults.
    _carried: ClassVar[Dict[str, Any]] = {}

    def _carry(self, message: Any, **attributes: Any) -> None:
        """Sets the attributes, and `args` after them."""
        self.__dict__.update(attributes)
        values = [plain(getattr(self, name)) for name in self._carried]
        defaults = list(self._carried.values())
        while values and values[-1] == defaults[len(values) - 1]:
            values.pop()
        self.args = (plain(message), *values) if values or message != "" else ()

    def __str__(self) -> str:
        if not self._carried:
            return super().__str__()
        # Not by `OSError`, which takes two arguments for a number and its text.
        return str(self.args[0]) if self.args else ""

    def __repr__(self) -> str:
        # Not all that `args` have: a result may be of any size.
        return f"{type(self).__name__}({self.args[0]!r})" if self._carried and self.args else super().__repr__()

    def __reduce__(self) -> Tuple[Any, ...]:
        attributes = self.__dict__
        if deeper_than(MAX_DEPTH, attributes.get("metadata")):
            # pickle is recursive, and has limits that the runtime's JSON may not have.
            attributes = {**attributes, "metadata": plain(attributes["metadata"])}
        return _rebuild, (type(self), self.args, attributes)


def _rebuild(cls: Type[RuntimeUseError], args: Tuple[Any, ...], attributes: Dict[str, Any]) -> RuntimeUseError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


def carry(error: RuntimeUseError, **attributes: Any) -> None:
    """Sets those of the attributes that errors of this kind have; its `args` go with them."""
    known = {name: value for name, value in attributes.items() if name in error._carried}
    if known:
        error._carry(error.args[0] if error.args else "", **known)


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

    Its text is what the runtime said and, where the metadata have them, the end of the `error_details`, or the cause.

    Attributes:
        error: What the runtime said.
        metadata: What it said besides, such as `error_name` and `stack`; for timeouts that the client noticed,
            `timeout_type` names the option. `None` where there is nothing.
        results: The commands that had run, as far as the client's `keep_output` goes; the last one has the exit code
            `None` where it had not ended, as far as is known.
        assistant_texts: What the agent had said, likewise.
        source_id: The call's, or `None`.
    """

    _carried: ClassVar[Dict[str, Any]] = {"metadata": None, "results": [], "assistant_texts": [], "source_id": None}

    def __init__(
        self,
        error: str,
        metadata: Optional[Dict[str, Any]] = None,
        results: Optional[List[CommandResultItem]] = None,
        assistant_texts: Optional[List[str]] = None,
        source_id: Optional[str] = None,
    ) -> None:
        super().__init__(error)
        self.error = error
        self.metadata = metadata
        self.results: List[CommandResultItem] = items_of(results)
        self.assistant_texts: List[str] = texts_of(assistant_texts)
        self._carry(error, source_id=source_id)

    def __str__(self) -> str:
        said = str(self.error)
        details = details_of(self.metadata, said)
        return f"{said}\n{details}" if details else said


class CommandFailedError(AgentRuntimeError):
    """A command exited non-zero: one of `execute_commands`, or a query's pre- or post-agent command.

    Its text names the command, and ends with the last lines of what it printed to stderr; to stdout, if nothing was
    seen on stderr.

    Attributes:
        error: What failed; for a query's commands, what the runtime said of it.
        metadata: The command and its exit code; for a query's commands, what the runtime said besides.
        results: What ran, in order, the failing command last.
        command: The command that failed. Of a query's commands the runtime does not say which: it is the last one that
            printed anything; `""` where none did and there were several.
        exit_code: Its exit code (-1: ended by a signal).
        assistant_texts: What the agent had said before.
        source_id: The call's, or `None`.
    """

    _carried: ClassVar[Dict[str, Any]] = {
        "metadata": None,
        "results": [],
        "command": "",
        "exit_code": -1,
        "assistant_texts": [],
        "source_id": None,
    }

    def __init__(
        self,
        error: str,
        metadata: Optional[Dict[str, Any]] = None,
        results: Optional[List[CommandResultItem]] = None,
        command: str = "",
        exit_code: int = -1,
        assistant_texts: Optional[List[str]] = None,
        source_id: Optional[str] = None,
    ) -> None:
        self.command = command
        self.exit_code = exit_code
        super().__init__(error, metadata, results, assistant_texts, source_id)

    @property
    def stdout(self) -> Optional[str]:
        """What the failing command printed to stdout; `None` where nothing was seen of it."""
        return getattr(self.results[-1], "stdout", None) if self.results else None

    @property
    def stderr(self) -> Optional[str]:
        """What the failing command printed to stderr; `None` where nothing was seen of it."""
        return getattr(self.results[-1], "stderr", None) if self.results else None

    def __str__(self) -> str:
        said = str(self.error)
        command = beginning_of(str(self.command))
        lines = [said] if not command or command in said else [said, f"command: {command}"]
        end = end_of(self.stderr) or details_of(self.metadata, said)
        if end:
            lines.append(end)
        elif end_of(self.stdout):
            lines += ["nothing was seen on stderr; stdout ends with:", end_of(self.stdout)]
        return "\n".join(lines)


class ProtocolError(AgentRuntimeError):
    """The runtime sent something that cannot be its protocol, where that something decides the call's outcome."""


class CancelledException(RuntimeUseError):
    """The call was ended by `abort()`.

    Attributes:
        results: The commands that had run, as in `AgentRuntimeError`.
        assistant_texts: What the agent had said, likewise.
        source_id: The call's, or `None`.
    """

    _carried: ClassVar[Dict[str, Any]] = {"results": [], "assistant_texts": [], "source_id": None}

    def __init__(
        self,
        message: str = "",
        results: Optional[List[CommandResultItem]] = None,
        assistant_texts: Optional[List[str]] = None,
        source_id: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.results: List[CommandResultItem] = items_of(results)
        self.assistant_texts: List[str] = texts_of(assistant_texts)
        self._carry(message, source_id=source_id)


class RunTimeoutError(RuntimeUseError, TimeoutError):
    """The call's `timeout` (or the time to end its session) passed.

    Attributes:
        result: What the call would have returned, where the result had come and only late artifacts were waited for;
            else `None`.
        results: The commands that had run, as in `AgentRuntimeError`.
        assistant_texts: What the agent had said, likewise.
        source_id: The call's, or `None`.
    """

    _carried: ClassVar[Dict[str, Any]] = {"result": None, "results": [], "assistant_texts": [], "source_id": None}

    def __init__(
        self,
        message: str,
        result: Any = None,
        results: Optional[List[CommandResultItem]] = None,
        assistant_texts: Optional[List[str]] = None,
        source_id: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.result = result_of(result)
        self.results: List[CommandResultItem] = items_of(results)
        self.assistant_texts: List[str] = texts_of(assistant_texts)
        self._carry(message, source_id=source_id)


class RuntimeConnectionError(RuntimeUseError, ConnectionError):
    """The runtime could not be reached, and why.

    Attributes:
        status: The HTTP status of a refused WebSocket handshake; `None` where there was no HTTP answer.
        source_id: The call's, or `None`.
    """

    _carried: ClassVar[Dict[str, Any]] = {"status": None, "source_id": None}

    def __init__(self, message: str, status: Optional[int] = None, source_id: Optional[str] = None) -> None:
        super().__init__(message)
        self.status = status
        self._carry(message, source_id=source_id)


class ConnectionLostError(RuntimeConnectionError, AgentRuntimeError):
    """The connection was lost, or the runtime fell silent, while it was needed.

    Attributes:
        error: The message.
        metadata: `{"in_flight": …}` names what was lost with it, such as `"query"` or `"command execution"`.
        result: What the call would have returned, where only the end of its session was lost; else `None`.
        results: The commands that had run, as in `AgentRuntimeError`.
        assistant_texts: What the agent had said, likewise.
        source_id: The call's, or `None`.
    """

    _carried: ClassVar[Dict[str, Any]] = {
        "metadata": None,
        "result": None,
        "results": [],
        "assistant_texts": [],
        "source_id": None,
    }

    def __init__(
        self,
        message: str,
        metadata: Optional[Dict[str, Any]] = None,
        result: Any = None,
        results: Optional[List[CommandResultItem]] = None,
        assistant_texts: Optional[List[str]] = None,
        source_id: Optional[str] = None,
    ) -> None:
        RuntimeUseError.__init__(self, message)
        self.error = message
        self.metadata = metadata
        self.status = None
        self.result = result_of(result)
        self.results: List[CommandResultItem] = items_of(results)
        self.assistant_texts: List[str] = texts_of(assistant_texts)
        self._carry(message, source_id=source_id)

    def __str__(self) -> str:
        return str(self.error)


class ArtifactUploadError(RuntimeUseError):
    """Files could not be uploaded; raised when the session, or the one-shot, ends.

    Attributes:
        filepaths: The paths inside the sandbox of those that the client could not answer for, or not in time. Which
            uploads the runtime itself has given up, only the text says.
        result: What the call would have returned, where it is a one-shot's; else `None`.
        source_id: The call's, or `None`.
    """

    _carried: ClassVar[Dict[str, Any]] = {"filepaths": [], "result": None, "source_id": None}

    def __init__(
        self,
        message: str,
        filepaths: Optional[List[str]] = None,
        result: Any = None,
        source_id: Optional[str] = None,
    ) -> None:
        super().__init__(message)
        self.filepaths: List[str] = filepaths if filepaths is not None else []
        self.result = result_of(result)
        self._carry(message, source_id=source_id)


class SessionStateError(RuntimeUseError, RuntimeError):
    """The session cannot take this call: closed, opened in another process, or called from inside its own callback."""

    _carried: ClassVar[Dict[str, Any]] = {"source_id": None}

    def __init__(self, message: str = "", source_id: Optional[str] = None) -> None:
        super().__init__(message)
        self._carry(message, source_id=source_id)
