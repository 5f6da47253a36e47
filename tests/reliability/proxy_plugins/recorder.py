"""A plugin that runs inside proxy.py's process: it notes what each request tells the proxy, and resolves `.invalid`."""

from __future__ import annotations

import json
import os
from typing import Any, Optional, Tuple

from proxy.http.proxy import HttpProxyBasePlugin


class Recorder(HttpProxyBasePlugin):  # type: ignore[misc]  # proxy.py is not read for its types
    """Appends a line of JSON for each request to the file that the environment's `PROXY_RECORD` names."""

    def resolve_dns(self, host: str, port: int) -> Tuple[Optional[str], Any]:
        return ("127.0.0.1" if host.endswith(".invalid") else None), None

    def before_upstream_connection(self, request: Any) -> Any:
        headers = {name.decode(): value.decode() for name, value in request.headers.values()}
        entry = {"method": request.method.decode(), "host": request.host.decode(), "port": request.port}
        # Before the connection is made: whoever uses it finds this already written.
        with open(os.environ["PROXY_RECORD"], "a", encoding="utf-8") as record:
            record.write(json.dumps({**entry, "headers": headers}) + "\n")
        return request
