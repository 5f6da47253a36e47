"""`event_stream`: the server-sent events of a run as a response.

Threads: the response is iterated in the server's thread.
"""

from typing import Any, Union

from ..run import Run


def event_stream(run: Union["Run[Any]"], request: Any) -> Any:
    """Returns the server-sent events of a run as a `StreamingHttpResponse`.

    Args:
        run: The run, of `stream` or `stream_commands`.
        request: The request that asked for it.
    """
    raise NotImplementedError
