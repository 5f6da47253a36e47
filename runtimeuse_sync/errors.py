"""The exceptions that the client raises, as one tree.

The tree::

    RuntimeUseError
    ├── AgentRuntimeError              the runtime answered with an error; .error, .metadata
    │   ├── CommandFailedError         a command exited non-zero; .results, .command, .exit_code, .stderr, .stdout
    │   ├── OutputValidationError      the agent's answer does not fit the output_type; .errors, .structured_output
    │   └── ProtocolError              the runtime violated the protocol
    ├── CancelledException             the call was aborted
    ├── RunTimeoutError                the call's deadline passed (also a TimeoutError)
    ├── RuntimeConnectionError         could not connect, and why (also a ConnectionError)
    │   └── ConnectionLostError        lost or silent during a call (also an AgentRuntimeError)
    ├── ArtifactUploadError            artifacts could not be uploaded, or did not arrive; .filepaths
    └── SessionStateError              the session does not allow this call: closed, forked, or in its own callback

Every error has `source_id`, the option of the call that raised it. `AgentRuntimeError`, `CancelledException`,
`RunTimeoutError` and `ConnectionLostError`, and their subclasses, also have `results` and `assistant_texts`: what the
call had received when it failed.

Errors can be pickled and copied with all their attributes. `args` contains the attributes as well, as plain JSON
values, so that `type(error)(*error.args)` recreates the error, even after a job queue has sent `args` as JSON. `str` is
for people.

Threads: nothing is shared; each function runs in its caller's thread.
"""

import copy
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Sequence, Tuple, Type

from ._wire.error_format import (
    MAX_DEPTH,
    beginning_of,
    deeper_than,
    details_of,
    end_of,
    items_of,
    plain,
    result_of,
    texts_of,
)
from .results import CommandResultItem


class RuntimeUseError(Exception):
    """Base class of all errors that this package raises, except `TypeError` and `ValueError` for invalid arguments.

    What an error carries are attributes: its classes document them as arguments, which have the same names. Every error
    has `source_id`, the option of the call that raised it.
    """

    args: Tuple[Any, ...]
    """All that the error carries, as plain JSON values: `type(error)(*error.args)` makes the error again."""
    source_id: Optional[str] = None
    """The option `source_id` of the call that raised the error; `None` if it had none."""

    #: The attributes that the constructor takes after its first argument, in that order, with their defaults.
    _carried: ClassVar[Dict[str, Any]] = {}

    def _carry(self, message: Any, **attributes: Any) -> None:
        """Sets the attributes, then `args` from all of them."""
        self.__dict__.update(attributes)
        values = [plain(getattr(self, name)) for name in self._carried]
        defaults = list(self._carried.values())
        while values and values[-1] == defaults[len(values) - 1]:
            values.pop()
        self.args = (plain(message), *values) if values or message != "" else ()

    def __str__(self) -> str:
        try:
            from ._display.advice import with_advice
        except ImportError:
            return self._said()  # The interpreter is shutting down, and imports nothing more.
        return with_advice(self._said(), [each.__name__ for each in type(self).__mro__], self.__dict__)

    def _said(self) -> str:
        """Returns what the error says, without what to do about it."""
        if not self._carried:
            return super().__str__()
        # Not by `OSError.__str__`, which takes two arguments for an error number and its text.
        return str(self.args[0]) if self.args else ""

    def __repr__(self) -> str:
        # Show only the first of `args`: a result among them may have any size.
        return f"{type(self).__name__}({self.args[0]!r})" if self._carried and self.args else super().__repr__()

    def __reduce__(self) -> Tuple[Any, ...]:
        attributes = self.__dict__
        for name in ("metadata", "structured_output"):
            if deeper_than(MAX_DEPTH, attributes.get(name)):
                # pickle is recursive: values nested as deeply as JSON allows could overflow its stack.
                attributes = {**attributes, name: plain(attributes[name])}
        return _rebuild, (type(self), self.args, attributes)


def _rebuild(cls: Type[RuntimeUseError], args: Tuple[Any, ...], attributes: Dict[str, Any]) -> RuntimeUseError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


def carry(error: RuntimeUseError, **attributes: Any) -> None:
    """Sets the given attributes, as far as the class of the error has them, and updates `args`."""
    known = {name: value for name, value in attributes.items() if name in error._carried}
    if known:
        error._carry(error.args[0] if error.args else "", **known)


def without_traceback(error: Optional[BaseException]) -> Optional[BaseException]:
    """Returns a copy of one of this module's errors without its traceback, which would keep frames alive.

    Returns any other error unchanged.
    """
    # A subclass that a user has written may not support copying.
    if error is None or type(error).__module__ != __name__:
        return error
    copied = copy.copy(error)
    # Where tblib is installed, copies have the traceback and the context.
    copied.__traceback__ = copied.__context__ = None
    copied.__cause__ = error.__cause__
    copied.__suppress_context__ = error.__suppress_context__
    return copied


def said(error: BaseException) -> str:
    """Returns what an error says, without what to do about it: to be part of another error's text."""
    if isinstance(error, RuntimeUseError) and type(error).__str__ is RuntimeUseError.__str__:
        return error._said()
    return str(error)


class AgentRuntimeError(RuntimeUseError):
    """The runtime ended the request with an error, or the client's idle or callback timeout passed.

    Each argument is an attribute of the same name. `str` returns `error` and, if the metadata contain them, the end of
    the `error_details` or else the cause.

    Args:
        error: The error text: the runtime's, or for a timeout the client's.
        metadata: Details from the runtime, such as `error_name` and `stack`. For a timeout, `timeout_type` names the
            option that set it. `None` if there are none.
        results: The commands that had run, in order, as far as the client's `keep_output` allows. The last one has the
            exit code `None` if it had not ended as far as the client knows.
        assistant_texts: The texts that the agent had sent, in order, as far as the client's `keep_output` allows.
        source_id: The option `source_id` of the call; `None` if it had none.
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

    def _said(self) -> str:
        said = str(self.error)
        details = details_of(self.metadata, said)
        return f"{said}\n{details}" if details else said


class CommandFailedError(AgentRuntimeError):
    """A command exited non-zero: one of `execute_commands`, or a pre- or post-agent command of a query.

    Each argument is an attribute of the same name. `str` names the command and shows the last lines that it printed to
    stderr, or to stdout if it printed nothing to stderr. `execute_commands(…, check=False)` returns the results
    instead of raising this error.

    Args:
        error: What failed; for a query's commands, the runtime's error text.
        metadata: The command and its exit code; for a query's commands, details from the runtime.
        results: The commands that had run, in order, as far as the client's `keep_output` allows. The failed command is
            the last one.
        command: The command that failed. For a query's commands the runtime does not say which one it was: it is the
            last one that printed anything, or `""` if none did and there were several.
        exit_code: The command's exit code; -1 if a signal ended it.
        assistant_texts: The texts that the agent had sent, in order, as far as the client's `keep_output` allows.
        source_id: The option `source_id` of the call; `None` if it had none.
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
        """What the failed command printed to stdout; `None` if the client received nothing."""
        return getattr(self.results[-1], "stdout", None) if self.results else None

    @property
    def stderr(self) -> Optional[str]:
        """What the failed command printed to stderr; `None` if the client received nothing."""
        return getattr(self.results[-1], "stderr", None) if self.results else None

    def _said(self) -> str:
        said = str(self.error)
        command = beginning_of(str(self.command))
        lines = [said] if not command or command in said else [said, f"command: {command}"]
        end = end_of(self.stderr) or details_of(self.metadata, said)
        if end:
            lines.append(end)
        elif end_of(self.stdout):
            lines += ["nothing on stderr; stdout ends with:", end_of(self.stdout)]
        return "\n".join(lines)


class OutputProblem(Dict[str, str]):
    """One reason why an answer does not fit: a dict, and so JSON as it is, with `"path"` and `"reason"`.

    Args:
        path: Where in the answer: `findings[1].line`; `""` is the whole answer.
        reason: What is wrong there.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path=path, reason=reason)

    @property
    def path(self) -> str:
        """Where in the answer, such as `findings[1].line`; `""` is the whole answer.

        A part in angle brackets, as in `shape<Circle>.radius`, is not in the answer: it says which alternative of the
        type was tried.
        """
        return self["path"]

    @property
    def reason(self) -> str:
        """What is wrong there."""
        return self["reason"]

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(self), (self["path"], self["reason"])


#: How many problems the text of an `OutputValidationError` shows.
_SHOWN_PROBLEMS = 3


class OutputValidationError(AgentRuntimeError):
    """The agent's answer does not fit the `output_type` of the query.

    Each argument is an attribute of the same name. `str` shows the first three problems. Secrets are masked in
    everything that the error has.

    Args:
        error: That the answer does not fit, and how many problems there are.
        metadata: `None`.
        errors: The problems, in order: what is wrong, and where.
        structured_output: The agent's answer, a JSON object. If the type is not one of objects, the value is under the
            key `"value"`.
        results: The commands that had run, in order, as far as the client's `keep_output` allows.
        assistant_texts: The texts that the agent had sent, in order, as far as the client's `keep_output` allows.
        source_id: The option `source_id` of the call; `None` if it had none.
    """

    _carried: ClassVar[Dict[str, Any]] = {
        "metadata": None,
        "errors": [],
        "structured_output": None,
        "results": [],
        "assistant_texts": [],
        "source_id": None,
    }

    def __init__(
        self,
        error: str,
        metadata: Optional[Dict[str, Any]] = None,
        errors: Optional[Sequence[Mapping[str, str]]] = None,
        structured_output: Optional[Dict[str, Any]] = None,
        results: Optional[List[CommandResultItem]] = None,
        assistant_texts: Optional[List[str]] = None,
        source_id: Optional[str] = None,
    ) -> None:
        self.errors: List[OutputProblem] = [OutputProblem(each["path"], each["reason"]) for each in errors or ()]
        self.structured_output: Optional[Dict[str, Any]] = structured_output
        super().__init__(error, metadata, results, assistant_texts, source_id)

    def _said(self) -> str:
        lines = [super()._said()]
        for problem in self.errors[:_SHOWN_PROBLEMS]:
            where = f"{beginning_of(problem.path)}: " if problem.path else ""
            lines.append(f"  {where}{beginning_of(' '.join(problem.reason.split()))}")
        if len(self.errors) > _SHOWN_PROBLEMS:
            lines.append(f"  … and {len(self.errors) - _SHOWN_PROBLEMS} more")
        return "\n".join(lines)


class ProtocolError(AgentRuntimeError):
    """The runtime violated the protocol in a way that decides the outcome of the call.

    It sent a malformed terminal message or one of the wrong kind, text where the query had an output schema, invalid
    WebSocket frames, or more upload requests than the client can keep. Other malformed messages are logged and ignored.
    Each argument is an attribute of the same name.

    Args:
        error: What is wrong.
        metadata: `{"text": …}` has the text that came instead of structured output; `{"in_flight": …}` names the
            request that a closed connection interrupted. Otherwise `None`.
        results: The commands that had run, in order, as far as the client's `keep_output` allows. The last one has the
            exit code `None` if it had not ended as far as the client knows.
        assistant_texts: The texts that the agent had sent, in order, as far as the client's `keep_output` allows.
        source_id: The option `source_id` of the call; `None` if it had none.
    """


class CancelledException(RuntimeUseError):
    """The call was ended by `abort()`, or because its `cancel_when` returned a true value.

    Each argument but the first is an attribute of the same name.

    Args:
        message: What happened, for people.
        results: The commands that had run, in order, as far as the client's `keep_output` allows. The last one has the
            exit code `None` if it had not ended as far as the client knows.
        assistant_texts: The texts that the agent had sent, in order, as far as the client's `keep_output` allows.
        source_id: The option `source_id` of the call; `None` if it had none.
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
    """The call's `timeout` passed, or the `end_session_timeout` of its session. Also a `TimeoutError`.

    Each argument but the first is an attribute of the same name.

    Args:
        message: What happened, for people.
        result: What the call would have returned, if it had its result and was waiting for late artifacts only;
            otherwise `None`.
        results: The commands that had run, in order, as far as the client's `keep_output` allows. The last one has the
            exit code `None` if it had not ended as far as the client knows.
        assistant_texts: The texts that the agent had sent, in order, as far as the client's `keep_output` allows.
        source_id: The option `source_id` of the call; `None` if it had none.
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
        self.result: Any = result_of(result)
        self.results: List[CommandResultItem] = items_of(results)
        self.assistant_texts: List[str] = texts_of(assistant_texts)
        self._carry(message, source_id=source_id)


class RuntimeConnectionError(RuntimeUseError, ConnectionError):
    """The client could not connect to the runtime. Also a `ConnectionError`.

    Each argument but the first is an attribute of the same name.

    Args:
        message: Why not, for people.
        status: The HTTP status with which the WebSocket handshake was refused; `None` if there was no HTTP response.
        source_id: The option `source_id` of the call; `None` if it had none.
    """

    _carried: ClassVar[Dict[str, Any]] = {"status": None, "source_id": None}

    def __init__(self, message: str, status: Optional[int] = None, source_id: Optional[str] = None) -> None:
        super().__init__(message)
        self.status: Optional[int] = status
        self._carry(message, source_id=source_id)


class ConnectionLostError(RuntimeConnectionError, AgentRuntimeError):
    """The connection was lost, or the runtime fell silent, during a call. Also an `AgentRuntimeError`.

    Each argument is an attribute of the same name, but for the first, which is the attribute `error`. `status` is
    `None`.

    Args:
        message: What happened, for people.
        metadata: `{"in_flight": …}` names what was lost with the connection, such as `"query"` or
            `"command execution"`. With `"sent": False` nothing of that was sent, so it may be repeated.
        result: What the call would have returned, if only the end of its session was lost; otherwise `None`.
        results: The commands that had run, in order, as far as the client's `keep_output` allows. The last one has the
            exit code `None` if it had not ended as far as the client knows.
        assistant_texts: The texts that the agent had sent, in order, as far as the client's `keep_output` allows.
        source_id: The option `source_id` of the call; `None` if it had none.
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
        self.status: Optional[int] = None
        self.result: Any = result_of(result)
        self.results: List[CommandResultItem] = items_of(results)
        self.assistant_texts: List[str] = texts_of(assistant_texts)
        self._carry(message, source_id=source_id)

    def _said(self) -> str:
        return str(self.error)


class ArtifactUploadError(RuntimeUseError):
    """Artifacts could not be uploaded, or did not arrive.

    Raised at the end of the session or of the one-shot call, for late artifacts; and by the ready-made callbacks in
    `runtimeuse_sync.artifacts`, for uploads that failed and for a bucket that does not exist. Each argument but the
    first is an attribute of the same name.

    Args:
        message: What happened, for people.
        filepaths: The paths in the sandbox of the files whose upload requests the client could not answer, or not in
            time, or that did not arrive. Uploads that the runtime itself gave up are mentioned only in the message.
        result: What a one-shot call would have returned; `None` for a session.
        source_id: The option `source_id` of the call; `None` if it had none.
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
        self.result: Any = result_of(result)
        self._carry(message, source_id=source_id)


class SessionStateError(RuntimeUseError, RuntimeError):
    """The session or run is in a state that does not allow this call. Also a `RuntimeError`.

    The session is not open, closed, inherited by a forked process, or called from its own callback; the run is not
    entered yet, or is used twice; or the interpreter is shutting down. `source_id` is an attribute, too.

    Args:
        message: What happened, for people.
        source_id: The option `source_id` of the call; `None` if it had none.
    """

    _carried: ClassVar[Dict[str, Any]] = {"source_id": None}

    def __init__(self, message: str = "", source_id: Optional[str] = None) -> None:
        super().__init__(message)
        self._carry(message, source_id=source_id)
