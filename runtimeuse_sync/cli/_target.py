"""Makes the client: of a runtime that is running, or of the embedded one, which runs as long as the context lasts.

Threads: the calling thread; the embedded runtime has threads of its own.
"""

import contextlib
import os
import secrets
import sys
from typing import Any, Dict, Iterator

import click

from ..client import RuntimeUseClient
from ._options import Settings, project_client


@contextlib.contextmanager
def connected(settings: Settings) -> Iterator[RuntimeUseClient]:
    """Yields the client that the settings describe.

    Raises:
        click.UsageError: A setting is invalid, or the embedded runtime cannot start with it.
        OSError: The embedded runtime cannot listen.
    """
    more: Dict[str, Any] = {"timeout": settings.timeout}
    if settings.connect_timeout is not None:
        more["connect_timeout"] = settings.connect_timeout
    of_the_project = project_client(settings)
    if of_the_project is not None:
        given = {name: value for name, value in more.items() if value is not None}
        with wrong_usage():
            client = of_the_project({**given, "headers": settings.headers})
        yield client
        return
    if not settings.local:
        with wrong_usage():
            client = RuntimeUseClient(settings.url, headers=settings.headers, **more)
        yield client
        return
    with wrong_usage():
        from ..runtime import LocalRuntime
    find_modules_here()
    # Nobody else on this machine is to run commands by it.
    token = secrets.token_urlsafe(24)
    with contextlib.ExitStack() as stack:
        with wrong_usage():
            runtime = stack.enter_context(LocalRuntime(settings.agent or "shell", token=token))
            headers = {**settings.headers, "Authorization": f"Bearer {token}"}
            client = RuntimeUseClient(runtime.ws_url, headers=headers, **more)
        yield client


@contextlib.contextmanager
def wrong_usage() -> Iterator[None]:
    """Raises what the client says of wrong arguments, or of a missing extra, as wrong usage of the command."""
    try:
        yield
    except (TypeError, ValueError, ImportError) as error:
        raise click.UsageError(str(error).replace("ws_url", "the URL")) from error


def find_modules_here() -> None:
    """Has the modules of agents found in the current directory, as `python -m` does; a script's path lacks it."""
    here = os.getcwd()
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)
