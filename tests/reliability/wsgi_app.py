"""The WSGI application that gunicorn serves in the tests: the view of `examples/wsgi_view.py`, with its own timeouts.

The client is made when the module is imported: with `--preload` before the workers are forked, and shared by them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Callable, Dict, Iterable
from urllib.parse import parse_qs

from runtimeuse_sync import RuntimeUseClient


def _load_view() -> Any:
    path = Path(__file__).resolve().parents[2] / "examples" / "wsgi_view.py"
    spec = importlib.util.spec_from_file_location("wsgi_view", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ask: Callable[[RuntimeUseClient, str, float], Any] = _load_view().ask
client = RuntimeUseClient(model="any")


def application(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    query = parse_qs(environ["QUERY_STRING"])
    status, body = ask(client, query["prompt"][0], float(query["timeout"][0]))
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body.encode())))])
    return [body.encode()]
