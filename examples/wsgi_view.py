"""Ask an agent in a synchronous web view: plain WSGI here, and the same few lines in a Django or Flask view.

One client serves all threads of the server. Each kind of failure becomes the matching HTTP status.
"""

import threading
from typing import Any, Callable, Dict, Iterable, List, Tuple
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote
from urllib.request import ProxyHandler, build_opener
from wsgiref.simple_server import WSGIRequestHandler, make_server

from runtimeuse_sync import AgentRuntimeError, RuntimeConnectionError, RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime


def ask(client: RuntimeUseClient, prompt: str, timeout: float = 3.0) -> Tuple[str, str]:
    """The view: returns a status and a body."""
    try:
        return "200 OK", client.query(prompt, timeout=timeout).text
    except TimeoutError:
        return "504 Gateway Timeout", "the agent took too long\n"
    except RuntimeConnectionError:
        return "502 Bad Gateway", "the agent cannot be reached\n"
    except AgentRuntimeError as error:
        return "500 Internal Server Error", f"the agent failed: {error.error}\n"


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


def main() -> None:
    with LocalRuntime(agent="shell") as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="any", connect_timeout=0.2)

        def application(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            status, body = ask(client, parse_qs(environ["QUERY_STRING"])["prompt"][0])
            start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
            return [body.encode()]

        with make_server("127.0.0.1", 0, application, handler_class=QuietHandler) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,)).start()
            browse = build_opener(ProxyHandler({})).open
            prompts: List[str] = ["echo hello", "exit 3", "sleep 30"]
            for prompt in prompts:
                url = f"http://127.0.0.1:{server.server_port}/?prompt={quote(prompt)}"
                try:
                    with browse(url) as response:
                        print(f"{prompt!r}: {response.status} {response.read().decode().strip()}")
                except HTTPError as error:
                    with error:
                        print(f"{prompt!r}: {error.code} {error.read().decode().strip()}")
            server.shutdown()
    print("the runtime has stopped:", ask(client, "echo hello")[0])


if __name__ == "__main__":
    main()
