"""Calls and runs beside an event loop: for `async` views of Django, FastAPI and Starlette, and any other asyncio code.

The client blocks, so a call from a coroutine would stop the loop. Here the call, or the run, gets a thread of its own,
and what the loop does to the task reaches the runtime: if the task is cancelled, so is the run::

    result = await asgi.run_in_thread(client.query, prompt, timeout=60)

    return StreamingResponse(asgi.events(client.stream(prompt)), headers=sse.HEADERS)

This is the only module of the package that imports asyncio, beside the embedded runtime and its agents. It works with
asyncio's loops, uvloop's among them; not with trio.

States of a stream: new → started (its thread runs) → ended, or left, from which the thread comes to its end by itself.
`_Relay` holds the chunks between the thread and the task: a few at most, after which the thread waits, and reads
nothing more of the run. Whoever changes its state does so before waking the other side, and the other side looks again
before it waits.

Threads: one for each call of `run_in_thread` and for each stream, `runtimeuse-asgi-…`, with the context variables of
whoever started it. It makes the call, or reads the run, and so runs the callbacks. The loop's thread has the rest. It
waits only by `await`, but for the last steps of a thread that has done its work.
"""

import asyncio
import contextvars
import itertools
import threading
import weakref
from collections import deque
from typing import Any, AsyncIterator, Callable, Deque, Dict, Iterable, List, Optional, Sized, Tuple, TypeVar, Union

from ._call import Call, Wakeup, note_of_calls, shortened
from ._threads import join_thread, new_thread, start_thread
from ._wire import validation as check
from ._wire.validation import Seconds
from .errors import CancelledException
from .run import Run
from .sse import EventStream

__all__ = ["AsyncEventStream", "events", "run_in_thread"]

_T = TypeVar("_T")

#: How many chunks may wait for the task that reads a stream.
_MOST_CHUNKS = 16

#: After how many seconds a thread that waits for its reader looks whether the loop is still there.
_LOOK = 1.0

#: For how many seconds the loop waits for the last steps of a thread that has done its work; they take microseconds.
_LAST_STEPS = 1.0

_numbers = itertools.count(1)


async def run_in_thread(function: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
    """Calls a function in a thread of its own, and returns what it returns; much as `asyncio.to_thread`.

    The difference: if the task that awaits this is cancelled, all calls of this package that the function has made are
    aborted, at once and on the runtime, and those that it is about to make end as well. So a `timeout` around it, a
    reader that disconnects, and the end of a task group end the run. The task waits for the function to return, so that
    nothing goes on behind it: at once, unless the function or a callback is busy with something else.

    Context variables are those of the caller. Callbacks run in the thread.

    Args:
        function: What to call: a method of a client or session, such as `client.query`, or a function that uses any
            number of them.
        *args: Its arguments.
        **kwargs: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        asyncio.CancelledError: The task was cancelled. What the function raised, unless it is that its call was
            cancelled, is its `__cause__`; what the function returned all the same, because it was done just then, is
            its attribute `result`.
        TypeError: `function` cannot be called, or is a coroutine function.
        RuntimeConnectionError: The system cannot start another thread.
        Exception: Whatever else the function raises.
    """
    check.check_callback("function", function)
    loop = asyncio.get_running_loop()
    calls = _Calls()
    done: asyncio.Future[None] = loop.create_future()
    outcomes: List[Tuple[Any, Optional[BaseException]]] = []

    def work() -> None:
        """Makes the call, in the new thread."""
        try:
            outcomes.append((function(*args, **kwargs), None))
        except BaseException as error:
            outcomes.append((None, error))
        finally:
            _tell(loop, done)

    thread = new_thread(calls.context().run, f"runtimeuse-asgi-{next(_numbers)}", work)
    start_thread(thread)
    cancelled: Optional[asyncio.CancelledError] = None
    while not done.done():
        try:
            await asyncio.wait({done})
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
            calls.abort()
        except BaseException:
            # The coroutine is closed, or its loop interrupted: there is nothing that could be awaited any more.
            calls.abort()
            raise
    join_thread(thread, _LAST_STEPS)
    result, failure = outcomes.pop()
    try:
        if cancelled is not None:
            if failure is None:
                cancelled.result = result  # type: ignore[attr-defined]
            raise cancelled from (None if isinstance(failure, CancelledException) else failure)
        if failure is not None:
            raise shortened(failure)
    finally:
        # Their tracebacks reference this frame: drop them to avoid reference cycles.
        del cancelled, failure
    returned: _T = result
    return returned


def events(
    source: Union["Run[Any]", Iterable[Any]],
    *,
    comment_every: Seconds = 0.5,
    last_event_id: Union[int, str, None] = None,
    retry: Optional[Seconds] = None,
) -> "AsyncEventStream":
    """Returns an asynchronous iterator over the server-sent events of a run, as `sse.events` encodes them.

    The run is read in a thread of its own, and its callbacks run there. It is cancelled on the runtime at once if the
    task that reads the iterator is cancelled, as frameworks do when the reader disconnects; if the iterator is closed,
    by `aclose` or `close`; and if it is dropped, also if it was never started.

    Args:
        source: As for `sse.events`: a run, or recorded events. The iterable is read in the thread.
        comment_every: After how many seconds of silence a comment is sent, or a `timedelta`. Default: 0.5.
        last_event_id: As for `sse.events`. Default: `None`.
        retry: As for `sse.events`. Default: `None`.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has an invalid value.
    """
    stream = EventStream(source, comment_every=comment_every, last_event_id=last_event_id, retry=retry)
    return AsyncEventStream(stream)


class AsyncEventStream(AsyncIterator[bytes]):
    """An asynchronous iterator over the chunks of an `EventStream`, which a thread reads.

    One task at a time may read it. Iterating raises what iterating over the stream raises.

    Args:
        stream: The stream.
        at_end: Called in the thread when it is about to end. Default: nothing is.
    """

    def __init__(self, stream: EventStream, at_end: Callable[[], object] = lambda: None) -> None:
        self._relay = _Relay(stream, at_end)
        self._finalizer = weakref.finalize(self, self._relay.leave)
        self._finalizer.atexit = False

    def __aiter__(self) -> "AsyncEventStream":
        return self

    async def __anext__(self) -> bytes:
        relay = self._relay
        relay.start(asyncio.get_running_loop())
        relay.begin_reading()
        try:
            chunk = await relay.next()
        except BaseException as error:
            self.close()
            raise shortened(error)  # noqa: B904  # the same exception
        finally:
            relay.is_read = False
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def close(self) -> None:
        """Ends the stream: cancels the run on the runtime. Never blocks; safe from any thread. May be repeated.

        The thread gives back what the run has taken, and ends, within moments; `aclose` waits for that.
        """
        self._relay.leave()
        self._finalizer.detach()

    async def aclose(self) -> None:
        """Ends the stream as `close` does, and waits until its thread has done its work."""
        self.close()
        await self._relay.ended()


class _Relay:
    """Brings the chunks of a stream from the thread that reads it to the task that wants them."""

    def __init__(self, stream: EventStream, at_end: Callable[[], object]) -> None:
        self._stream = stream
        self._at_end = at_end
        self._context = contextvars.copy_context()
        self._chunks: Deque[bytes] = deque()
        self._error: Optional[BaseException] = None
        self._thread: Optional[threading.Thread] = None
        self._is_done = self._is_left = False
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        #: What tasks wait for; the thread takes it, and has the loop set it. Each step is a single atomic operation.
        self._waiting: Dict[asyncio.Future[None], None] = {}
        self.is_read = False
        self._has_room = Wakeup(sliced=False)

    # The loop's thread.

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the thread, unless it has been."""
        if self._loop is not None and self._loop is not loop:
            raise RuntimeError("a stream of events is read in the event loop in which it was begun")
        if self._thread is not None or self._is_left:
            return
        self._loop = loop
        self._thread = new_thread(self._context.run, f"runtimeuse-asgi-{next(_numbers)}", self._work)
        try:
            start_thread(self._thread)
        except BaseException:
            self._thread = None
            raise

    def begin_reading(self) -> None:
        """Notes that a task reads."""
        if self.is_read:
            raise RuntimeError("another task is reading this stream of events")
        self.is_read = True

    async def next(self) -> Optional[bytes]:
        """Returns the next chunk; `None` at the end."""
        while True:
            # Before the chunks are looked at: the last of them comes before the end.
            is_done = self._is_done or self._thread is None
            if self._is_left:
                return None
            if self._chunks:
                chunk = self._chunks.popleft()
                self._has_room.wake()
                return chunk
            if is_done:
                await self.ended()
                self._raise_error()
                return None
            await self._wait(self._chunks)

    def _raise_error(self) -> None:
        """Raises what ended the thread, once."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            # Its traceback references this frame: drop it to avoid a reference cycle.
            del error

    async def ended(self) -> None:
        """Waits until the thread has ended, if there is one."""
        while self._thread is not None and not self._is_done:
            await self._wait(())
        if self._thread is not None:
            join_thread(self._thread, _LAST_STEPS)

    async def _wait(self, enough: Sized) -> None:
        """Waits for whatever the thread does next, unless it is done, or there is enough."""
        assert self._loop is not None
        future = self._loop.create_future()
        self._waiting[future] = None
        try:
            # Only now: the thread either finds the future, or has done its part before.
            if not self._is_done and not enough:
                await future
        finally:
            self._waiting.pop(future, None)

    # Any thread.

    def leave(self) -> None:
        """Ends the run. Never blocks; may be repeated."""
        self._is_left = True
        if self._thread is None:
            self._stream.close()
        else:
            self._stream.abort()
            self._has_room.wake()

    # The stream's thread.

    def _work(self) -> None:
        try:
            try:
                for chunk in self._stream:
                    self._chunks.append(chunk)
                    self._wake_task()
                    while len(self._chunks) >= _MOST_CHUNKS and not self._has_no_reader():
                        self._has_room.wait(_LOOK)
                    if self._has_no_reader():
                        break
            finally:
                self._stream.close()
                self._at_end()
        except BaseException as error:
            self._error = error
        self._is_done = True
        self._wake_task()

    def _has_no_reader(self) -> bool:
        assert self._loop is not None
        return self._is_left or self._loop.is_closed()

    def _wake_task(self) -> None:
        assert self._loop is not None
        for future in list(self._waiting):
            if self._waiting.pop(future, self) is None:
                _tell(self._loop, future)


class _Calls:
    """The calls that are made in one context, to be aborted together.

    Calls may be made in several threads, and aborted from any.
    """

    def __init__(self) -> None:
        self._aborted = False
        # Each step on it is a single atomic operation. A reference drops itself with its call.
        self._calls: Dict[weakref.ref[Call], None] = {}

    def context(self) -> contextvars.Context:
        """Returns a copy of the current context, in which each call that is made is one of these."""
        context = contextvars.copy_context()
        around = context.get(note_of_calls)

        def note(call: Call) -> None:
            self.add(call)
            if around is not None:
                around(call)

        context.run(note_of_calls.set, note)
        return context

    def add(self, call: Call) -> None:
        """Adds a call, which is aborted at once if the others have been."""
        self._calls[weakref.ref(call, self._forget)] = None
        # In this order: `abort` either finds the call, or has set the flag before.
        if self._aborted:
            call.abort()

    def _forget(self, reference: "weakref.ref[Call]") -> None:
        self._calls.pop(reference, None)

    def abort(self) -> None:
        """Aborts all calls, and those to come."""
        self._aborted = True
        for reference in list(self._calls):
            call = reference()
            if call is not None:
                call.abort()


def _tell(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[None]") -> None:
    """Has the loop set a future, unless that has been closed: then nobody waits."""

    def tell() -> None:
        if not future.done():
            future.set_result(None)

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:
        if not loop.is_closed():
            raise
