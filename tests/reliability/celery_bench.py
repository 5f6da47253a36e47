"""A worker of Celery's, a Redis and a runtime; what tasks have come to, and what of them runs in the runtime."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import psutil

from runtimeuse_sync.runtime import LocalRuntime

from ..support.fixtures import QUICK
from .redis_server import redis_server

#: For what must come in the end; only a failure waits for it.
PATIENCE = 90

ROOT = Path(__file__).resolve().parents[2]


class Bench:
    """A Redis, a runtime and workers, and what tasks have come to.

    Attributes:
        runtime: What the tasks talk to.
        app: What sends tasks, and knows what has come of them.
        store: The Redis, which is the broker, too.
        broker: Its URL.
        sent: The results of what was sent.
    """

    def __init__(self, broker: str, runtime: LocalRuntime, stack: contextlib.ExitStack, directory: Path) -> None:
        import redis

        from .celery_parts import make_app

        self.runtime = runtime
        self.broker = broker
        self._stack = stack
        self._log = directory / "worker.log"
        self.store = stack.enter_context(redis.Redis.from_url(broker, socket_timeout=2 * PATIENCE))
        self.app = make_app(broker)
        self.sent: List[Any] = []
        stack.callback(self._close_app)

    def _close_app(self) -> None:
        import kombu.pools

        # A result that is forgotten would have it out with a Redis that is no more.
        for task in self.sent:
            self.app.backend.remove_pending_result(task)
            task.backend = None
        self.sent.clear()
        self.app.backend.result_consumer.stop()
        self.app.backend.client.connection_pool.disconnect()
        self.app.pool.force_close_all()
        self.app.close()
        kombu.pools.reset()
        # What it was made of is garbage that has descriptors.
        del self.app

    def start_worker(self, pool: str, application: str = "celery_app") -> subprocess.Popen[bytes]:
        """Starts a worker of one of this folder's applications, and returns it when it takes tasks."""
        options = ["--pool", pool, "--concurrency", "1" if pool == "solo" else "3", "--loglevel", "INFO"]
        options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        environment = {**os.environ, "CELERY_REDIS": self.broker, "RUNTIMEUSE_WS_URL": self.runtime.ws_url}
        command = [sys.executable, "-m", "celery", "-A", f"tests.reliability.{application}", "worker", *options]
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                command, cwd=str(ROOT), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._stack.callback(self._stop, process)
        assert self.store.blpop(["ready"], PATIENCE), self.log()
        return process

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is not None:
            return
        children = psutil.Process(process.pid).children(recursive=True)
        # It has nothing left to do, and takes its time for that; but first, as it would start new children.
        process.kill()
        process.wait(PATIENCE)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        assert not psutil.wait_procs(children, PATIENCE)[1]

    def log(self) -> str:
        return self._log.read_text(errors="replace")[-5000:]

    def send(self, name: str, *arguments: Any, **options: Any) -> Any:
        self.sent.append(self.app.send_task(name, arguments, **options))
        return self.sent[-1]

    def outcome(self, task: Any) -> Any:
        """Returns what a task has returned or raised."""
        import celery.exceptions

        try:
            return task.get(timeout=PATIENCE, propagate=False)
        except celery.exceptions.TimeoutError:
            raise AssertionError(f"{task.id} has not ended: {self.log()}") from None

    def processes_of(self, task: Any) -> List[int]:
        """Returns the processes of an endless task, once it has begun."""
        told = self.store.blpop([f"began {task.id}"], PATIENCE)
        assert told, self.log()
        return [int(word) for word in told[1].split()]

    def told_by(self, task: Any) -> List[int]:
        """Returns the processes of an endless task that has ended: none where it had not begun."""
        return [int(word) for each in self.store.lrange(f"began {task.id}", 0, -1) for word in each.split()]

    def check_next(self, count: int = 5) -> None:
        """Asserts that the next tasks are right, each: more than there are processes in the pool."""
        tasks = [self.send("query", number) for number in range(count)]
        assert [self.outcome(task) for task in tasks] == [f"answer {number}\n" for number in range(count)]


@contextlib.contextmanager
def benches(tmp_path: Path) -> Iterator[Bench]:
    """Yields a bench that works in a directory."""
    (tmp_path / "work").mkdir()
    with contextlib.ExitStack() as stack:
        settings: Dict[str, Any] = {"root": str(tmp_path / "work"), **QUICK}
        runtime = stack.enter_context(LocalRuntime("shell", **settings))
        broker = stack.enter_context(redis_server(tmp_path))
        yield Bench(broker, runtime, stack, tmp_path)


def shown(error: BaseException) -> Dict[str, Any]:
    """Returns all that a program or a person sees of an error."""
    names = [name for name in dir(error) if not name.startswith("_") and hasattr(error, name)]
    values = {name: getattr(error, name) for name in names}
    public = {name: value for name, value in values.items() if not callable(value)}
    # What JSON makes of tuples.
    public["args"] = json.loads(json.dumps(error.args))
    shown = {"text": str(error), **public}
    return {"type": type(error), **{name: _without_time(value) for name, value in shown.items()}}


def _without_time(value: Any) -> Any:
    """Returns a value without what an error of connecting says on a busy machine only: that time was up meanwhile."""
    if isinstance(value, list):
        return [_without_time(each) for each in value]
    return (
        re.sub(r"no connection within \S+ s[^;]*; the last attempt: ", "", value) if isinstance(value, str) else value
    )
