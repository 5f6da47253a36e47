"""Server-sent events of a run: what it sends, as the bytes that a browser's `EventSource` reads.

This module owns the events, their JSON and their numbers, and the iterator over them, which any web framework can send
as the body of a response (here Flask's)::

    from runtimeuse_sync import sse

    body = sse.events(client.stream(prompt))  # an iterator of bytes; closing it cancels the run
    return Response(body, headers=sse.HEADERS)

The events, by name; the data of each is one JSON object::

    assistant   `text_blocks`, and `text`, which is all of them
    output      `stream` ("stdout" or "stderr"), `text`, `command`
    heartbeat   `phase`, `elapsed_ms`
    result      of a query `data` and `metadata`, of commands `results`; the last event
    error       `error`, a text for people, and `type`, the class of the exception; of a command that failed also
                `command` and `exit_code`; the last event

JSON is not HTML: what an agent says may contain `<script>`. The page has to put texts in as texts (`textContent`),
never as HTML, and whoever writes the JSON into a page has to escape it for that place.

A reader that has left is noticed only when something is sent: the first bytes after it are answered by a reset, and the
next ones fail. So while the run is silent, a comment is sent every half second.

States of an `EventStream`: new → open (the first chunk was taken) → reading (the run was started) → over. `close` leads
from each of them to over, and may be repeated.

Threads: none of its own. The thread that iterates starts the run, reads it, and runs its callbacks. Any thread may
`abort`, and the garbage collector's closes a stream that was dropped.
"""

import functools
import json
import re
import weakref
from typing import Any, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Union

from ._call import monotonic, shortened
from ._interrupts import surely, undone_on_failure
from ._wire import validation as check
from ._wire.error_format import plain
from ._wire.json_text import encode_json
from ._wire.validation import Seconds
from .errors import AgentRuntimeError, CommandFailedError, RuntimeUseError, SessionStateError, said
from .messages import AssistantMessageInterface, CommandOutputMessageInterface, HeartbeatMessageInterface
from .results import CommandExecutionResult, QueryResult
from .run import IN_USE, Run

__all__ = ["COMMENT", "HEADERS", "Event", "EventStream", "encode", "event_of", "events", "last_event_number"]

HEADERS: Mapping[str, str] = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
"""The headers of a response with events. The last one keeps nginx from holding events back."""

COMMENT = b":\n\n"
"""What is sent while there is no event. Readers drop it."""

#: What readers of a run are told of an exception that is not one of this package: its text is not meant for them.
_UNEXPECTED = "the server failed"

#: Where a stack begins in a text: Python's, or that of JavaScript.
_STACK = re.compile(
    r"\s*(?:^|\n)(?:Traceback \(most recent call last\):|[ \t]+at [^\n]*[:(]|[ \t]+File \"[^\n]*\", line \d).*",
    re.DOTALL,
)

_NOTHING: Any = object()


class Event(NamedTuple):
    """An event.

    Args:
        name: Its name, such as `"output"`: the page listens to that.
        data: Its data: anything that JSON can hold. What it cannot hold is sent as its text.
        id: Its number, 1 or more. `None`, the default, is one more than that of the event before.
    """

    name: str
    data: Any
    id: Optional[int] = None


def event_of(item: Any) -> Event:
    """Returns the event of a message, of a result or of an exception.

    Args:
        item: A message that a run yields, the result of a query or of commands, or the exception that ended the run.
            An `Event` is returned as it is.

    Raises:
        TypeError: `item` is something else.
    """
    if isinstance(item, Event):
        return item
    if isinstance(item, CommandOutputMessageInterface):
        return Event("output", {"stream": item.stream, "text": item.text, "command": item.command})
    if isinstance(item, AssistantMessageInterface):
        return Event("assistant", {"text_blocks": item.text_blocks, "text": item.text})
    if isinstance(item, HeartbeatMessageInterface):
        return Event("heartbeat", {"phase": item.phase, "elapsed_ms": item.elapsed_ms})
    if isinstance(item, QueryResult):
        return Event("result", {"data": dict(vars(item.data)), "metadata": item.metadata})
    if isinstance(item, CommandExecutionResult):
        return Event("result", {"results": [plain(result) for result in item.results]})
    if isinstance(item, BaseException):
        return Event("error", _shown(item))
    raise TypeError(f"an event is made of a message, a result, an exception or an Event, not of {type(item).__name__}")


def _shown(error: BaseException) -> Dict[str, Any]:
    """Returns what readers may know of an exception: no stack, and no text that was not made for them."""
    if not isinstance(error, RuntimeUseError):
        return {"error": _UNEXPECTED, "type": "InternalError"}
    # Not the details of the runtime, nor advice: both are for whoever runs the site, who has the exception itself.
    text = error.error if isinstance(error, AgentRuntimeError) else said(error)
    data: Dict[str, Any] = {"error": _STACK.sub("", str(text)).strip(), "type": type(error).__name__}
    if isinstance(error, CommandFailedError):
        data.update(command=error.command, exit_code=error.exit_code)
    return data


def encode(event: Event) -> bytes:
    """Returns an event as it is sent.

    Its data are one line of JSON in UTF-8, whatever line breaks and halves of surrogate pairs are in its texts. What it
    looks like is in the HTML standard, "Server-sent events".

    Args:
        event: The event.

    Raises:
        TypeError: The name is not a str, or the number not an int.
        ValueError: The name is empty or has a line break, or the number is less than 1.
    """
    name, data, number = event
    check.check_text("the name of an event", name)
    if "\n" in name or "\r" in name or "\0" in name:
        raise ValueError("the name of an event must not have a line break")
    lines = [b"event: " + name.encode("utf-8", "replace")]
    if number is not None:
        check.check_type("the id of an event", number, int, "an int")
        if number < 1:
            raise ValueError(f"the id of an event must be 1 or more, not {number}")
        lines.append(b"id: %d" % number)
    lines += [b"data: " + _json(data), b"", b""]
    return b"\n".join(lines)


def _json(data: Any) -> bytes:
    try:
        return encode_json(data, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        # A type that JSON lacks, NaN, a value that contains itself or is nested very deeply.
        return json.dumps(plain(data)).encode()


def last_event_number(last_event_id: Union[int, str, None]) -> int:
    """Returns the number of the last event that a reader has seen; 0 if it has seen none.

    Args:
        last_event_id: The header `Last-Event-ID` of the reader's request. A text that is no number counts as none: the
            reader may send anything.

    Raises:
        TypeError: It is neither a str nor an int nor `None`.
        ValueError: It is a negative number.
    """
    if last_event_id is None:
        return 0
    check.check_type("last_event_id", last_event_id, (str, int), "the text of the header Last-Event-ID, or an int")
    if isinstance(last_event_id, int):
        if last_event_id < 0:
            raise ValueError(f"last_event_id must be 0 or more, not {last_event_id}")
        return last_event_id
    text = last_event_id.strip()
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else 0


def events(
    source: Union["Run[Any]", Iterable[Any]],
    *,
    comment_every: Seconds = 0.5,
    last_event_id: Union[int, str, None] = None,
    retry: Optional[Seconds] = None,
) -> "EventStream":
    """Returns an iterator over the server-sent events of a run, encoded.

    The run starts with the second chunk, and ends with the event `result` or `error`. The first chunk is no event: it
    has the server send its headers, and gives the reader an id, 0, so that it has one to tell if it connects again.
    Closing the iterator before cancels the run on the runtime; so does dropping it, also if it was never started.
    Servers close it when they find that the reader has left.

    An error of this package becomes an event `error`, whose text has no secrets and no stack, and the iterator ends.
    Any other exception, such as one of a callback, is sent as "the server failed", and then raised: it is for the
    server's log.

    Args:
        source: A run, of `stream` or `stream_commands` of a client or a session, which need not be entered. Or recorded
            events to be sent again: an iterable of messages, results, exceptions and `Event`s. It may wait for more,
            and yield `None` where it has nothing new: then a comment is sent if it is time to.
        comment_every: After how many seconds of silence a comment is sent, or a `timedelta`. A reader that has left is
            noticed within twice that. Default: 0.5.
        last_event_id: The header `Last-Event-ID` of the request: events up to this number are left out. For recorded
            events, which are the same each time. A run cannot be resumed, so for a run it is rarely right: see
            docs/event-streams.md. Default: `None`, all events are sent.
        retry: After how many seconds a reader that lost its connection should connect again, or a `timedelta`. Default:
            `None`, the reader decides.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has an invalid value.
    """
    return EventStream(source, comment_every=comment_every, last_event_id=last_event_id, retry=retry)


class EventStream(Iterator[bytes]):
    """An iterator over encoded events; `events` makes it.

    Use it as it is, or by `contextlib.closing`. Iterating raises what is not an error of this package, such as an
    exception of a callback, after its event `error`; and `KeyboardInterrupt` and its like at once.
    """

    def __init__(
        self,
        source: Union["Run[Any]", Iterable[Any]],
        *,
        comment_every: Seconds = 0.5,
        last_event_id: Union[int, str, None] = None,
        retry: Optional[Seconds] = None,
    ) -> None:
        every, wait = check.seconds(comment_every), check.seconds(retry)
        check.check_interval("comment_every", every)
        if wait is not None and wait != 0:
            check.check_interval("retry", wait)
        self._seen = last_event_number(last_event_id)
        self._items: Union[_ItemsOfRun, _Recorded] = (
            _ItemsOfRun(source) if isinstance(source, Run) else _Recorded(source)
        )
        self._every: float = every
        # Without data, so it is no event; but a browser that loses its connection now has an id to tell.
        self._greeting = (
            b":\nid: %d\n" % self._seen + (b"" if wait is None else b"retry: %d\n" % round(wait * 1000)) + b"\n"
        )
        self._number = 0
        self._is_new = True
        self._is_over = False
        self._error: Optional[BaseException] = None
        self._finalizer = weakref.finalize(self, self._items.leave)
        self._finalizer.atexit = False

    def __iter__(self) -> "EventStream":
        return self

    def __next__(self) -> bytes:
        try:
            chunk = self._next()
        except BaseException as error:
            self.close()
            raise shortened(error)  # noqa: B904  # the same exception
        if chunk is None:
            self.close()
            raise StopIteration
        return chunk

    def _next(self) -> Optional[bytes]:
        """Returns the next chunk; `None` at the end."""
        if self._is_new and not self._is_over:
            self._is_new = False
            return self._greeting
        until = monotonic() + self._every
        while not self._is_over:
            item = self._read(until - monotonic())
            if item is None:
                break
            if item is not _NOTHING:
                event = event_of(item)
                self._number = self._number + 1 if event.id is None else event.id
                chunk = encode(event._replace(id=self._number))
                if self._number > self._seen:
                    return chunk
            if monotonic() >= until:
                return COMMENT
        error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def _read(self, seconds: float) -> Any:
        """Returns what is next; `_NOTHING` if nothing has come in time, `None` at the end."""
        try:
            return self._items.next(max(0.0, seconds))
        except Exception as error:
            self._is_over = True
            surely(self._items.leave)
            if not isinstance(error, RuntimeUseError):
                self._error = error
            return error

    def abort(self) -> None:
        """Ends the stream: cancels the run on the runtime. Never blocks; safe from any thread and signal handler.

        The thread that iterates finds the end. Nothing is given back before it does, or before `close`.
        """
        self._is_over = True
        self._items.abort()

    def close(self) -> None:
        """Ends the stream: cancels the run on the runtime if it has not ended. May be repeated.

        While another thread is iterating, this only ends the run; that thread then finds the end.
        """
        self._is_over = True
        surely(self._items.leave)
        self._finalizer.detach()


class _ItemsOfRun:
    """The messages of a run, and its result."""

    def __init__(self, run: "Run[Any]") -> None:
        self._run = run
        self._has_ended = False

    def next(self, seconds: float) -> Any:
        """Returns the next item; `_NOTHING` if none has come within `seconds`, `None` at the end."""
        run = self._run
        if self._has_ended:
            return None
        try:
            if not run._started and not self._enter(seconds):
                return _NOTHING
            message = run.next(timeout=seconds)
        except TimeoutError:
            # The run's own time limit, and a `TimeoutError` of a callback, have ended it.
            if run._reader.error is not None or not run._started:
                raise
            return _NOTHING
        if message is not None:
            return message
        self._has_ended = True
        result = run.result
        run.close()
        return result

    def _enter(self, seconds: float) -> bool:
        """Enters the run, if its session's turn comes within `seconds`; returns whether it did.

        A reader may leave while the run waits for its turn or for the connection, so neither is waited for at a
        stretch.
        """
        run, call = self._run, self._run._call
        if run._channel is None:
            run._reserve()
        channel = run._channel
        assert channel is not None
        if channel.persistent:
            if channel.turn.used_by_this_thread():
                raise call.prepared(SessionStateError(IN_USE))
            until = call.now() + seconds
            while not channel.turn.has(run._ticket):
                if call.now() >= until:
                    return False
                call.wait(until)
        undone_on_failure(functools.partial(run._enter, until_open=False), run.close)
        return True

    def abort(self) -> None:
        self._run.abort()

    def leave(self) -> None:
        """Gives back what the run has taken; may be repeated."""
        self._run.abort()
        self._run.close()


class _Recorded:
    """Items that were recorded, from an iterable."""

    def __init__(self, source: Any) -> None:
        if isinstance(source, (str, bytes, bytearray, Mapping)) or not hasattr(source, "__iter__"):
            raise TypeError(
                "events are made of a run (client.stream(…), say), or of an iterable of messages and Events, not of "
                f"{type(source).__name__}"
            )
        self._source = source
        self._iterator: Optional[Iterator[Any]] = None

    def next(self, seconds: float) -> Any:  # noqa: ARG002  # how long to wait is the iterable's own
        if self._iterator is None:
            self._iterator = iter(self._source)
        for item in self._iterator:
            return _NOTHING if item is None else item
        return None

    def abort(self) -> None:
        """Nothing: the stream does not ask again."""

    def leave(self) -> None:
        for each in (self._iterator, self._source):
            close = getattr(each, "close", None)
            if close is not None and isinstance(each, Iterator):
                close()
