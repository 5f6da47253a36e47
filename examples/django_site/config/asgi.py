"""The site for ASGI servers, such as uvicorn. It serves its static files itself, as in `wsgi.py`."""

import asyncio
import os
from typing import Any

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

_site = ASGIStaticFilesHandler(get_asgi_application())


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The site, and what Django leaves out: when the server ends, the runs end in good order first."""
    if scope["type"] != "lifespan":
        await _site(scope, receive, send)
        return
    from runs.recorder import recorder  # type: ignore[import-not-found]  # by its name on the site's own path

    while True:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await asyncio.get_running_loop().run_in_executor(None, recorder().shut_down)
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
