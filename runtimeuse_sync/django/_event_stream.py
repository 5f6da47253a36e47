"""`event_stream`: the server-sent events of a run as a response.

Under WSGI the response has a plain iterator, under ASGI an asynchronous one: there, Django would read a plain one to
its end before it sends anything.

Threads: under WSGI the server's thread iterates, and so runs the callbacks. Under ASGI a thread of the stream's own
does (`asgi.py`); the database connections that callbacks have opened there are closed when it ends.
"""

from typing import Any, Iterable, Optional, Union

from django.db import connections
from django.http import HttpResponse, StreamingHttpResponse

from .._wire.validation import Seconds
from ..run import Run
from ..sse import HEADERS, EventStream

#: For `last_event_id`: what the request says.
_OF_REQUEST: Any = object()

#: GZipMiddleware, and proxies that compress, leave alone what has an encoding; compressed events would be held back.
_HEADERS = {**HEADERS, "Content-Encoding": "identity"}


def event_stream(
    run: Union["Run[Any]", Iterable[Any]],
    request: Any,
    *,
    comment_every: Seconds = 0.5,
    last_event_id: Union[int, str, None] = _OF_REQUEST,
    retry: Optional[Seconds] = None,
) -> Any:
    """Returns the server-sent events of a run as a response: a `StreamingHttpResponse`.

    The run starts when the response is sent. If the reader leaves before its end, the run is cancelled on the runtime,
    within two seconds at most: under WSGI when the next comment cannot be sent, under ASGI at once (Django 4.2 does not
    look; 5.0 and later do). `runtimeuse_sync.sse` describes the events.

    A browser's `EventSource` connects again whenever a response ends, and says by `Last-Event-ID` what it has seen. The
    run that it saw is over then: such a request is answered by 204, which ends the reconnecting, and nothing runs. Also
    if it has seen no event yet: it says 0 then. Recorded events are sent from where the reader was.

    Args:
        run: The run, of `stream` or `stream_commands`, which need not be entered. Or recorded events: an iterable of
            messages, results, exceptions and `sse.Event`s, as for `sse.events`.
        request: The request that asked for it.
        comment_every: After how many seconds of silence a comment is sent, or a `timedelta`. Default: 0.5.
        last_event_id: Events up to this number are left out, whatever the request says; `None` leaves out none, and
            starts a run in any case. Default: the request's `Last-Event-ID`, as described.
        retry: After how many seconds a browser that lost its connection should connect again, or a `timedelta`.
            Default: `None`, the browser decides.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has an invalid value.
    """
    if not hasattr(request, "META"):
        raise TypeError(f"request must be a request of Django, not {type(request).__name__}")
    seen = request.META.get("HTTP_LAST_EVENT_ID") if last_event_id is _OF_REQUEST else last_event_id
    is_repeated = last_event_id is _OF_REQUEST and bool(seen) and isinstance(run, Run)
    seen = None if is_repeated else seen
    stream = EventStream(run, comment_every=comment_every, last_event_id=seen, retry=retry)
    if is_repeated or request.method == "HEAD":
        stream.close()
        return HttpResponse(status=204) if is_repeated else HttpResponse(headers=_HEADERS)
    # Django's own class for requests under ASGI would import asyncio.
    if not hasattr(request, "scope"):
        return StreamingHttpResponse(stream, headers=_HEADERS)
    from ..asgi import AsyncEventStream

    return StreamingHttpResponse(AsyncEventStream(stream, at_end=connections.close_all), headers=_HEADERS)
