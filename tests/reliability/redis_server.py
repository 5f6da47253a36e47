"""A real Redis, Debian's `redis-server`, as a process of its own that keeps nothing on disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from ..support.processes import end, killed_in_the_end
from ..support.servers import free_port

SERVER = shutil.which("redis-server", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


def needs_redis() -> pytest.MarkDecorator:
    """Marks a test that is skipped without a Redis, but not in CI on Linux, where `.ci/run` sees to it."""
    in_ci = sys.platform == "linux" and bool(os.environ.get("CI"))
    return pytest.mark.skipif(SERVER is None and not in_ci, reason="needs redis-server, a package of Debian's")


@contextlib.contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """Yields the URL of a Redis that listens on loopback."""
    assert SERVER is not None, "there is no redis-server, whose rows must not be left out in CI"
    with free_port() as port:
        command = [SERVER, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        with killed_in_the_end(process):
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if "Ready to accept connections" in line:
                    break
            else:
                raise AssertionError("no Redis: " + "".join(said))
            yield f"redis://127.0.0.1:{port}/0"
            end(process)
