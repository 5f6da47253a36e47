"""A real HTTP proxy, PyPI's proxy.py, as a process of its own; it notes what it was told."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

import psutil

from ..support.processes import end
from ..support.servers import PATIENCE

PLUGINS = Path(__file__).with_name("proxy_plugins")


class HttpProxy:
    """The proxy, which listens on loopback; `.invalid` hosts are 127.0.0.1 for it, and for nobody else.

    Args:
        credentials: `user:password` to demand, if any.

    Attributes:
        address: Its host and port.
    """

    def __init__(self, credentials: str = "") -> None:
        self._stack = contextlib.ExitStack()
        work = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="proxy-")))
        self._record = work / "record"
        self._record.touch()
        self._said = work / "said"
        ready = work / "ready"
        # A pipe in the place of the file that the port is written to: its reader is woken.
        os.mkfifo(ready)
        pipe = os.open(ready, os.O_RDONLY | os.O_NONBLOCK)
        self._stack.callback(os.close, pipe)
        options = ["--hostname=127.0.0.1", "--port=0", f"--port-file={ready}", f"--data-dir={work}"]
        options += ["--num-acceptors=1", "--num-workers=1", "--timeout=60", "--plugins=recorder.Recorder"]
        options += [f"--basic-auth={credentials}"] if credentials else []
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy", *options],
                env={**os.environ, "PYTHONPATH": str(PLUGINS), "PROXY_RECORD": str(self._record)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self._stack.callback(self._stop)
        try:
            assert select.select([pipe], [], [], 2 * PATIENCE)[0], f"no proxy: {self._said.read_text()}"
            self.address = f"127.0.0.1:{int(os.read(pipe, 100).split()[0])}"
            self._await_worker()
        except BaseException:
            self._stack.close()
            raise

    def url(self, credentials: str = "") -> str:
        return f"http://{credentials}{'@' if credentials else ''}{self.address}"

    def requests(self) -> List[Dict[str, Any]]:
        """Returns the requests that it has let through since this was called last: method, host, port, headers."""
        lines = self._record.read_text().splitlines()
        self._record.write_text("")
        return [json.loads(line) for line in lines]

    def _await_worker(self) -> None:
        """Waits until it answers: it listens before it has started the process that does the work."""
        host, _, port = self.address.partition(":")
        with socket.create_connection((host, int(port)), PATIENCE) as sock:
            sock.sendall(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 ")
        self.requests()

    def _stop(self) -> None:
        # Its worker does not always end with it, and has nothing to finish.
        workers = psutil.Process(self._process.pid).children(recursive=True)
        end(self._process)
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        assert not psutil.wait_procs(workers, PATIENCE)[1]

    def __enter__(self) -> HttpProxy:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._stack.close()
