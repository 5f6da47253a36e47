"""Sends tasks, watches one, aborts one, and shows what comes of them. The package's docstring says how to run it."""

import contextlib
import os
import threading
from typing import Any

from runtimeuse_sync import CancelledException, CommandFailedError
from runtimeuse_sync.celery import result_from_json
from runtimeuse_sync.runtime import LocalRuntime

from .app import REDIS_URL, app
from .tasks import ask, build, check, report


def main() -> None:
    with contextlib.ExitStack() as stack:
        if not REDIS_URL:
            # Everything in this process, the worker in a thread.
            from celery.contrib.testing.worker import start_worker

            if not os.environ.get("RUNTIMEUSE_WS_URL"):
                os.environ["RUNTIMEUSE_WS_URL"] = stack.enter_context(LocalRuntime("shell")).ws_url
            worker = {"pool": "threads", "concurrency": 10, "perform_ping_check": False, "loglevel": "ERROR"}
            stack.enter_context(start_worker(app, **worker))
        one_prompt()
        commands()
        many_prompts()
        progress_and_abort()
        a_directory_of_its_own()


def one_prompt() -> None:
    result = ask.delay("echo four")
    answer = result_from_json(result.get(timeout=60))
    print("answer:", str(answer).strip())


def commands() -> None:
    try:
        check.delay(["echo looking", "cat nothing.txt"]).get(timeout=60)
    except CommandFailedError as error:
        # As it was raised in the worker, with all that it has.
        print("failed:", error.command, error.exit_code, "after", [each.stdout for each in error.results])


def many_prompts() -> None:
    gathered = report([f"echo answer {number}" for number in range(50)]).get(timeout=120)
    print("gathered:", gathered["answers"], gathered["texts"][0], "…", gathered["texts"][-1])


def progress_and_abort() -> None:
    result = ask.delay("echo reading; echo writing; sleep 600")
    progress = wait_for_progress(result, messages=1)
    print("progress:", progress["latest"].strip() in ("reading", "writing"))
    result.abort()
    try:
        result.get(timeout=60)
    except CancelledException as error:
        print("aborted:", [text.strip() for text in error.assistant_texts][:1])


def wait_for_progress(result: Any, messages: int) -> Any:
    """Returns the progress of a task once so many messages have come. A web page would ask in the same way."""
    pause = threading.Event()
    while True:
        state, info = result.state, result.info
        if state == "PROGRESS" and info["messages"] >= messages:
            return info
        if result.ready():
            raise RuntimeError(f"the task has ended: {info}")
        pause.wait(0.1)


def a_directory_of_its_own() -> None:
    print("built:", build.delay("echo 42 > size.txt; cat size.txt").get(timeout=60).strip())


if __name__ == "__main__":
    main()
