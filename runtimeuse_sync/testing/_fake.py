"""The fake runtime and its connections: which reply a request gets, and what the protocol says around it.

States of a connection: a request is in flight from its arrival until its terminal message, or the answer to its cancel,
has been queued (`_current`). Its play may go on after that, with messages that come late; the end of a session is
confirmed when all plays have ended and all upload requests are answered. `_broken` and `_mute` are for ever.

Threads: the thread that sends for a connection calls `send`, and so the functions that users give as replies; another
one waits in `receive`. Replies that take time have a thread each (`_playing.py`). A connection's lock guards its state;
no user's code runs under it.
"""

import queue
import threading
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Callable, ContextManager, Iterator, List, Optional, Sequence, Set, Type, TypeVar, Union

from .._wire.fixed_texts import BUSY_ERROR, CANCELLED_ERROR
from ._playing import Play, checked, is_terminal
from ._replies import Items, Message, Reply, error, text_result
from ._script import ANY, Expected, Script, commands_of, expected_commands, expected_query
from ._steps import STEPS, Step

_Self = TypeVar("_Self", bound="FakeRuntime")

#: How many seconds replies that were stopped have to end when the runtime is left.
_LAST_PATIENCE = 2.0


class FakeRuntime:
    """A transport with a runtime in memory, which answers requests as a script says.

    As a context manager it checks at its end, unless the body raised, that all went as the script says: see `verify`.
    A reply is a list of messages and steps (`delay`, `lost_connection` and so on), or a function that gets the request
    and returns such a list, or a generator function, whose messages are sent as it yields them. A single step is a
    reply, too, as a list with that step alone. A request that is not what the script expects next ends with an error
    that says so.

    `requests` has the requests received so far, `uploads` the answers to its upload requests, both in order, and
    `cancelled` is how many requests were cancelled.

    Args:
        replies: One reply for each request, in order, whatever the request. Or a function for all requests, as in
            `answer_all`. More can be added by the methods.

    Raises:
        TypeError: `replies` contains a message instead of a list of messages, or is a str.

    Examples:
        >>> with FakeRuntime() as fake:
        ...     fake.expect_query("What is 2 + 2?", text_result("4"), model="gpt-4.1")
        ...     fake.expect_commands(["make"], command_results("done"))
        ...     use(RuntimeUseClient(transport=fake))
    """

    def __init__(self, replies: Union[Sequence[Reply], Callable[[Message], Union[Items, Step, str]]] = ()) -> None:
        self.requests: List[Message] = []
        """The requests received so far, in order."""
        self.uploads: List[Message] = []
        """The answers to its upload requests, in order."""
        self.cancelled: int = 0
        """How many requests were cancelled, also of those that went on."""
        self._lock = threading.Lock()
        self._script = Script()
        self._plays: Set[Play] = set()
        if callable(replies):
            self.answer_all(replies)
            return
        for reply in [replies] if isinstance(replies, (str, dict, *STEPS)) else replies:
            if isinstance(reply, (str, dict)) or reply is replies:
                raise TypeError("replies must be a list of replies, each a list of messages: [text_result('4')]")
            self.expect(reply)

    def expect(self, reply: Union[Reply, str]) -> None:
        """Expects a request next, whatever it is.

        Args:
            reply: Its reply; a str is short for `text_result(str)`.

        Raises:
            TypeError: `reply` is no reply.
            ValueError: There is a function for all requests already.
        """
        self._expect(Expected(None, None, {}), reply)

    def expect_query(self, prompt: Any = ANY, reply: Union[Reply, str] = (), **fields: Any) -> None:
        """Expects a query next.

        Args:
            prompt: What its prompt must be: a str, a compiled pattern that is searched for, or a function of the prompt
                that returns whether it is right. Default: any.
            reply: Its reply; a str is short for `text_result(str)`. Default: none until it is cancelled, `HANG`.
            **fields: What further fields of the request must be, by their names in the protocol: `model`,
                `system_prompt`, `agent_env` and so on. Values are compared as the prompt is; `None` is a field that
                is not set.

        Raises:
            TypeError: There is no such field, or `reply` is no reply.
            ValueError: There is a function for all requests already.
        """
        self._expect(expected_query(prompt, fields), reply)

    def expect_commands(self, commands: Any = ANY, reply: Optional[Reply] = None, **fields: Any) -> None:
        """Expects a request to execute commands next.

        Args:
            commands: What they must be: a list with a str, a pattern or a function for each, or one of these for one
                command. A dict compares further fields, `{"command": "make", "cwd": "/app"}`. Default: any.
            reply: Its reply. Default: all commands exit with 0 and print nothing.
            **fields: What further fields of the request must be, as for `expect_query`.

        Raises:
            TypeError: There is no such field, `commands` are no commands, or `reply` is no reply.
            ValueError: There is a function for all requests already.
        """
        self._expect(expected_commands(commands, fields), _all_succeed if reply is None else reply)

    def answer_all(self, reply: Callable[[Message], Union[Items, Step, str]]) -> None:
        """Answers all requests by a function; no request is unexpected then.

        Args:
            reply: Gets the request and returns its reply; a generator function, too. Requests on different connections
                call it at the same time.

        Raises:
            TypeError: `reply` is not a function.
            ValueError: The script expects certain requests already.
        """
        if not callable(reply):
            raise TypeError(f"reply must be a function of the request, not {type(reply).__name__}")
        with self._lock:
            self._script.answer_all(reply)

    def verify(self) -> None:
        """Checks that all requests that the script expects have arrived, in order, and no others.

        Raises:
            AssertionError: Something else was received, or a function that makes replies has raised. The text shows
                expected and received requests side by side, secrets masked.
        """
        problems = self.problems()
        if problems:
            raise AssertionError(problems)

    def problems(self) -> str:
        """Returns what `verify` would complain about, as text; `""` if all is well."""
        with self._lock:
            return self._script.problems()

    def connect(self) -> "FakeConnection":
        """Opens a connection, and returns it; the client calls this."""
        return FakeConnection(self)

    def serve(self) -> ContextManager[str]:
        """Returns a context manager that serves this runtime by a WebSocket on 127.0.0.1, and gives its URL.

        For code that makes its client by itself, from a URL; see `use_runtime` for the environment variable. It needs
        no extra.

        Raises:
            OSError: On entering the context: the system has no port for it.
        """
        from ._serving import served

        return served(self)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()
        if kind is None:
            self.verify()

    def stop(self) -> None:
        """Stops replies that are still being sent, and waits for that, for 2 s at most."""
        with self._lock:
            plays = list(self._plays)
        for play in plays:
            play.stop()
        for play in plays:
            play.join(_LAST_PATIENCE)

    def _expect(self, expected: Expected, reply: Union[Reply, str]) -> None:
        given: Reply = _listed(reply)
        if isinstance(given, dict) or not (callable(given) or hasattr(given, "__iter__")):
            raise TypeError(
                f"reply must be a list of messages, or a function that returns one, not {type(reply).__name__}: "
                "text_result('4'), [assistant_message('…'), *text_result('4')], [lost_connection()]"
            )
        with self._lock:
            self._script.expect(expected, given)

    def _reply_to(self, request: Message) -> Items:
        with self._lock:
            self.requests.append(request)
            reply = self._script.reply_to(request)
        if not callable(reply):
            given: Items = reply
            return given
        try:
            made: Union[Items, Step, str] = reply(request)
        except BaseException as failure:
            self._failed(request, failure)
            raise
        items: Items = _listed(made)
        if isinstance(items, dict) or not hasattr(items, "__iter__"):
            wrong = TypeError(f"the reply's function returned a {type(made).__name__}, not a list of messages")
            self._failed(request, wrong)
            raise wrong
        return items

    def _failed(self, request: Message, failure: BaseException) -> None:
        with self._lock:
            self._script.failed(request, failure)

    @contextmanager
    def _knowing(self, play: Play) -> Iterator[None]:
        with self._lock:
            self._plays.add(play)
        try:
            yield
        except BaseException:
            self._forget(play)
            raise

    def _forget(self, play: Play) -> None:
        with self._lock:
            self._plays.discard(play)


def _listed(reply: "Union[Reply, str]") -> Any:
    """Returns a reply in its long form: a str is short for a result, and a step for a list with that step."""
    if isinstance(reply, str):
        return text_result(reply)
    return [reply] if isinstance(reply, STEPS) else reply


def _all_succeed(request: Message) -> Sequence[Message]:
    results = [{"command": command, "exit_code": 0} for command in commands_of(request)]
    return [{"message_type": "command_execution_result_message", "results": results}]


class FakeConnection:
    """One connection to a `FakeRuntime`; its `connect` returns it."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self._outgoing: queue.Queue[Union[Message, BaseException, None]] = queue.Queue()
        self._lock = threading.RLock()
        self._busy = False
        self._current: Optional[Play] = None
        self._plays: Set[Play] = set()
        self._ending = False
        self._broken = False
        self._mute = False
        self._unanswered: List[str] = []

    @property
    def is_silent(self) -> bool:
        """Whether nothing comes from the runtime any more, although the connection is open."""
        return self._mute

    def send(self, message: Message) -> None:
        """Handles a message from the client and queues the runtime's answers for `receive`.

        Args:
            message: The message, as a dict.

        Raises:
            TypeError: The reply contains something that is no message.
            Exception: Whatever a function raises that makes the reply.
        """
        with self._lock:
            if self._mute or not self._handle(message):
                return
        # Without the lock: this may call a function of the user.
        reply = self._runtime._reply_to(message)
        if isinstance(reply, (list, tuple)) and not any(isinstance(item, STEPS) for item in reply):
            try:
                messages = [checked(item) for item in reply]
            except TypeError as wrong:
                self._runtime._failed(message, wrong)
                raise
            with self._lock:
                self._busy = not any(is_terminal(each) for each in messages)
                self._put(messages)
            return
        play = Play(message, reply, self)
        with self._lock:
            self._busy, self._current = True, play
            self._plays.add(play)
        with self._runtime._knowing(play):
            play.start()

    def _handle(self, message: Message) -> bool:
        """Handles what is no request; returns whether the message is one that gets its reply."""
        kind = message["message_type"]
        if kind == "cancel_message":
            self._cancel()
        elif kind == "end_session_message":
            self._ending = True
            if self._busy and self._current is not None and not self._current.ignores_cancel:
                self._end_current()
            self._confirm_if_ended()
        elif kind == "artifact_upload_response_message":
            self._runtime.uploads.append(message)
            if message["filepath"] in self._unanswered:
                self._unanswered.remove(message["filepath"])
            self._confirm_if_ended()
        elif self._busy:
            self._put(error(BUSY_ERROR))
        elif kind == "command_execution_message" and not message["commands"]:
            self._put([{"message_type": "command_execution_result_message", "results": []}])
        else:
            return True
        return False

    def receive(self) -> Optional[Message]:
        """Blocks until the runtime sends a message, and returns it; returns `None` once the connection is closed.

        Raises:
            ConnectionResetError: The reply broke the connection.
            BaseException: What a generator raised that makes a reply.
        """
        item = self._outgoing.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            for play in self._plays:
                play.stop()
        self._outgoing.put(None)

    def _say(self, play: Play, message: Message, is_terminal: bool) -> None:
        with self._lock:
            if play.stopped:
                return
            if is_terminal and play is self._current:
                self._busy, self._current = False, None
            self._put([message])

    def _fall_silent(self, play: Play) -> None:
        with self._lock:
            self._mute = self._mute or not play.stopped

    def _break_down(self, error: BaseException) -> None:
        with self._lock:
            if not self._broken:
                self._broken = True
                for play in self._plays:
                    play.stop()
                # `receive` first returns what was sent before.
                self._outgoing.put(error)
                self._outgoing.put(None)

    def _failed(self, play: Play, error: BaseException) -> None:
        self._runtime._failed(play.request, error)
        self._break_down(error)

    def _played(self, play: Play) -> None:
        with self._lock:
            self._plays.discard(play)
            self._confirm_if_ended()
        self._runtime._forget(play)

    def _cancel(self) -> None:
        if not self._busy:
            return
        self._runtime.cancelled += 1
        if self._current is None or not self._current.ignores_cancel:
            self._end_current()
            self._put(error(CANCELLED_ERROR))

    def _end_current(self) -> None:
        if self._current is not None:
            self._current.stop()
        self._busy, self._current = False, None

    def _put(self, messages: Sequence[Message]) -> None:
        if self._mute or self._broken:
            return
        for message in messages:
            if message["message_type"] == "artifact_upload_request_message":
                self._unanswered.append(message["filepath"])
            self._outgoing.put(message)

    def _confirm_if_ended(self) -> None:
        running = [play for play in self._plays if not play.stopped]
        if self._ending and not self._unanswered and not running and not self._mute and not self._broken:
            self._outgoing.put({"message_type": "end_session_confirm_message"})
            self._outgoing.put(None)
