"""The site for gunicorn, and beside it `/held`: which threads of this package the process that answers has."""

from __future__ import annotations

import importlib
import json
import os
import threading
from typing import Any, Callable, Dict, Iterable

site: Callable[..., Iterable[bytes]] = importlib.import_module("config.wsgi").application


def application(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/held":
        return site(environ, start_response)
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("runtimeuse")]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "threads": threads}).encode()]
