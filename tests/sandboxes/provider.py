"""What stands in for each provider: its front for the ports of sandboxes, and a runtime behind it.

Run as programs (`python -m tests.sandboxes.e2b_fake EVENT`), the modules beside this one run an example against the
provider's own SDK, whose transport is answered here. What the example prints is followed by one line of JSON, which
says what was asked of the provider. `EVENT` is what happens: nothing (`well`), the front refuses for good (`refused`),
or the program gets SIGTERM in the middle of a query (`terminated`).

Threads: the front has one that accepts, and two for each connection.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import socket
import socketserver
import ssl
import sys
import tempfile
import threading
import wsgiref.simple_server
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import trustme

from runtimeuse_sync.runtime import LocalRuntime

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "sandboxes"

#: The port that the examples have the runtime listen on.
PORT = 8080

#: How many attempts find the port of the runtime not open yet.
COLD = 2

#: The key that the examples pass to the agent.
KEY = "sk-of-nobody"


class Provider:
    """A provider with one sandbox, whose runtime begins to run when the SDK has it started.

    Args:
        event: What happens.
        hosts: Host names that lead to the front; `*.` matches one label.

    Attributes:
        asked: What was asked of the provider, in order.
        wanted: A header that the front wants, with its value; `None` for none.
        cold_status: What the front answers while the port is not open; `""` closes the connection.
        ended: Set when the sandbox was ended.
    """

    def __init__(self, event: str, *hosts: str) -> None:
        self.event = event
        self.asked: List[str] = []
        self.wanted: Optional[str] = None
        self.cold_status = "502 Bad Gateway"
        self.ended = threading.Event()
        self._attempts = 0
        self._runtime: Optional[LocalRuntime] = None
        authority = trustme.CA()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*hosts).configure_cert(self._context)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._domains = [host.lstrip("*") for host in hosts]
        with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
            self._authority = file.name
        authority.cert_pem.write_to_path(self._authority)
        os.environ["SSL_CERT_FILE"] = self._authority
        os.environ["OPENAI_API_KEY"] = KEY
        system = socket.getaddrinfo

        def resolve(host: Any, *others: Any, **more: Any) -> Any:
            ours = isinstance(host, str) and any(host.endswith(domain) for domain in self._domains)
            return system("127.0.0.1" if ours else host, *others, **more)

        socket.getaddrinfo = resolve
        threading.Thread(target=self._accept, daemon=True).start()

    def start_runtime(self, command: str, environment: Dict[str, str]) -> None:
        """Starts the runtime, as the SDK asks for it."""
        self.asked.append(f"start {command}")
        assert environment.get("OPENAI_API_KEY") == KEY, environment

        def agent(invocation: Any, sender: Any) -> str:  # the signature of agents
            if self.event == "terminated":
                os.kill(os.getpid(), signal.SIGTERM)
                assert invocation.cancelled.wait(60)
            return f"asked: {invocation.user_prompt}"

        self._runtime = LocalRuntime(agent).start()

    def killed(self) -> None:
        """Ends the sandbox, as the SDK asks for it."""
        self.asked.append("kill")
        self.ended.set()

    def run_example(self, name: str) -> None:
        """Runs an example as a script, and prints what was asked of the provider."""
        code: Any = 0
        try:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        except BaseException as error:
            code = error.code if isinstance(error, SystemExit) else f"{type(error).__name__}: {error}"
        finally:
            if self._runtime is not None:
                self._runtime.stop()
            os.unlink(self._authority)
        print(json.dumps({"asked": self.asked, "ended": code, "attempts": self._attempts}), flush=True)
        # Threads of SDKs are no concern of the examples.
        os._exit(0)

    def _accept(self) -> None:
        while True:
            sock, _ = self._listening.accept()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context.wrap_socket(sock, server_side=True) as secured:
            head = b""
            while b"\r\n\r\n" not in head:
                data = secured.recv(65536)
                if not data:
                    return
                head += data
            self._attempts += 1
            status = self._refusal(head.decode("latin-1"))
            if status == "":
                return
            if status is not None:
                secured.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                return
            assert self._runtime is not None
            port = int(self._runtime.ws_url.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as behind:
                behind.sendall(head)
                threading.Thread(target=pass_on, args=(behind, secured), daemon=True).start()
                pass_on(secured, behind)

    def _refusal(self, head: str) -> Optional[str]:
        if self.wanted is not None and self.wanted.lower() not in head.lower():
            return "403 Forbidden"
        if self.event == "refused":
            return "401 Unauthorized"
        return self.cold_status if self._runtime is None or self._attempts <= COLD else None


def pass_on(source: Any, target: Any) -> None:
    with contextlib.suppress(OSError):
        for data in iter(lambda: source.recv(65536), b""):
            target.sendall(data)
        target.close()


def event_of_program() -> str:
    return sys.argv[1]


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name that it has
        """Says nothing."""


def serve(application: Any) -> str:
    """Serves a WSGI application, the API of a provider, on a free port; returns its URL."""
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, application, _Server, _Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def json_api(answer: Callable[[str, str, Any, Any], Any], success: str = "200 OK") -> Any:
    """Returns a WSGI application that answers by JSON: `answer` gets method, path, environ and body."""

    def application(environ: Any, start_response: Any) -> Any:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            value = answer(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ, json.loads(body or b"null"))
            status = "204 No Content" if value is None else success
        except LookupError as error:
            value, status = {"message": str(error)}, "404 Not Found"
        text = b"" if value is None else json.dumps(value).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
        return [text]

    return application
