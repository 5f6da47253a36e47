"""What gunicorn reads by itself when it is started here: `gunicorn config.wsgi`."""

from typing import Any

worker_class = "gthread"
workers = 2
# Whoever watches a run takes one of them.
threads = 64
# A worker that is killed because the machine is busy for a while takes all of its runs with it.
timeout = 120


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001  # as gunicorn calls it
    """Ends the worker's runs in good order, also under gevent, whose threads nobody waits for."""
    from runs.recorder import recorder  # type: ignore[import-not-found]  # gunicorn has put it on the path

    recorder().shut_down()
