"""The environment variable by which code that is given no URL finds a runtime.

Threads: the variable belongs to the process; whoever sets it restores it.
"""

import contextlib
import os
from typing import Any, Iterator, Union

from ..client import URL_VARIABLE
from ._fake import FakeRuntime


@contextlib.contextmanager
def use_runtime(runtime: Union[FakeRuntime, str, Any]) -> Iterator[str]:
    """Sets the environment variable `RUNTIMEUSE_WS_URL` for a `with` block, so that the code under test finds it.

    It can also decorate a test function. The variable belongs to the whole process, so no two of these may overlap in
    different threads.

    Args:
        runtime: A `LocalRuntime` that is running; a `FakeRuntime`, which is served by a WebSocket meanwhile; or a URL.

    Yields:
        The URL.

    Raises:
        TypeError: `runtime` is none of these.
        RuntimeError: The `LocalRuntime` is not running.
        OSError: The system has no port for the `FakeRuntime`.

    Examples:
        >>> with LocalRuntime(agent="echo") as runtime, use_runtime(runtime):
        ...     print(RuntimeUseClient(model="any").query("hello").text)
    """
    with contextlib.ExitStack() as stack:
        if isinstance(runtime, FakeRuntime):
            url = stack.enter_context(runtime.serve())
        elif isinstance(runtime, str):
            url = runtime
        else:
            given = getattr(runtime, "ws_url", None)
            if not isinstance(given, str):
                kind = type(runtime).__name__
                raise TypeError(f"runtime must be a LocalRuntime, a FakeRuntime or a URL (str), not {kind}")
            url = given
        before = os.environ.get(URL_VARIABLE)
        os.environ[URL_VARIABLE] = url
        try:
            yield url
        finally:
            if before is None:
                os.environ.pop(URL_VARIABLE, None)
            else:
                os.environ[URL_VARIABLE] = before
