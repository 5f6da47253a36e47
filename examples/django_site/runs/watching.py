"""The server-sent events of a run, from what is in the database: now, later, and in every process the same.

A stream begins after the last event that its reader has seen (`Last-Event-ID`, which a browser sends by itself when it
connects again, or `?after=`), goes on while the run does, and ends with an event `end`. It also ends after a while, and
the browser comes back with a new request: no worker is taken for long, and no server's limit for a request is met.

Under a server whose processes serve one request at a time, as gunicorn's `sync` workers, that while is very short, so
that the others get their turn.

Threads: WSGI iterates a stream in the thread of its request. Under ASGI it is iterated in the event loop, and each look
at the database is taken in one of the loop's worker threads.
"""

import asyncio
import time
import uuid
from typing import Any, AsyncIterator, Iterator, List, Tuple, Union

from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import StreamingHttpResponse

from runtimeuse_sync import sse

from .models import Event, Run
from .recorder import recorder
from .transcript import shown

#: Seconds between two looks at the database: right after an event, and at most, if it is quiet. There may be hundreds.
POLL, MAX_POLL = 0.2, 1.0
#: Seconds of a stream, and of one that nobody else can be served beside.
LONG, SHORT = 20.0, 0.5
#: Seconds without an event after which a comment is sent. A reader that has left is noticed by that.
QUIET = 1.0
#: The most events in one look, so that a long run is read piece by piece.
PIECE = 500


def end_of(run: Run) -> bytes:
    artifacts = [artifact.as_json() for artifact in run.artifacts.all()]
    seconds = round(run.duration.total_seconds(), 1)
    data = {"status": run.status, "label": run.get_status_display(), "reason": run.reason, "seconds": seconds}
    return sse.encode(sse.Event("end", {**data, "artifacts": artifacts}))


def look(run_id: uuid.UUID, after: int) -> Tuple[List[bytes], int, bool]:
    """Returns what is new: the encoded events, the number of the last one, and whether that was the end."""
    # The run before its events: whatever it had when it ended is there then.
    run = Run.objects.defer("prompt", "inputs").get(pk=run_id)
    if run.is_silent and Run.objects.mark_lost():
        run.refresh_from_db()
    events: List[Event] = list(run.events.filter(number__gt=after)[:PIECE])
    found = [sse.encode(sse.Event(event.kind, shown(event), event.number)) for event in events]
    if events:
        after = events[-1].number
    ended = not run.is_running and len(events) < PIECE
    if ended:
        found.append(end_of(run))
    return found, after, ended


def look_and_close(run_id: uuid.UUID, after: int) -> Tuple[List[bytes], int, bool]:
    """The same in a thread that belongs to nobody, whose connection nobody would close."""
    try:
        return look(run_id, after)
    finally:
        connection.close()


class Stream:
    """What the two kinds of iterators have in common: where the reader is, and when it is time for what."""

    def __init__(self, run_id: uuid.UUID, after: int, seconds: float) -> None:
        self.run_id = run_id
        self.after = after
        self._end_at = time.monotonic() + seconds
        self._spoke_at = 0.0
        self._poll = POLL

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._end_at

    def pause(self, found: List[bytes]) -> float:
        """Returns how long to wait before the next look: longer each time that nothing was found."""
        poll = 0.0 if found else self._poll
        self._poll = POLL if found else min(1.5 * self._poll, MAX_POLL)
        return poll

    def said(self, found: List[bytes]) -> bytes:
        """Returns what to send, which may be nothing."""
        now = time.monotonic()
        if not found and now < self._spoke_at + QUIET:
            return b""
        self._spoke_at = now
        return b"".join(found) or sse.COMMENT

    def __iter__(self) -> Iterator[bytes]:
        with recorder().reading(self.run_id):
            yield b"retry: 500\n\n"
            while True:
                found, self.after, ended = look(self.run_id, self.after)
                said = self.said(found)
                if said:
                    yield said
                if ended or self.is_over:
                    return
                time.sleep(self.pause(found))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        with recorder().reading(self.run_id):
            yield b"retry: 500\n\n"
            while True:
                found, self.after, ended = await loop.run_in_executor(None, look_and_close, self.run_id, self.after)
                said = self.said(found)
                if said:
                    yield said
                if ended or self.is_over:
                    return
                await asyncio.sleep(self.pause(found))


def stream_of(request: Any, run: Run, after: int) -> StreamingHttpResponse:
    """Returns the events of a run after a number as the response to a request, as its server needs it."""
    alone = not isinstance(request, ASGIRequest) and not request.META.get("wsgi.multithread", True)
    stream = Stream(run.pk, after, SHORT if alone else LONG)
    iterator: Union[Iterator[bytes], AsyncIterator[bytes]]
    iterator = stream.__aiter__() if isinstance(request, ASGIRequest) else stream.__iter__()
    response = StreamingHttpResponse(iterator, content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    # For nginx, which would hold events back otherwise.
    response.headers["X-Accel-Buffering"] = "no"
    return response
