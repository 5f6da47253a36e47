"""End a call before its answer arrives: by abort, Ctrl-C, a flag that somebody else sets, and each kind of timeout."""

import os
import signal
import tempfile
import threading
import time
from typing import Callable

from runtimeuse_sync import AssistantMessageInterface, CancelledException, RuntimeUseError, RuntimeUseSession
from runtimeuse_sync import RuntimeUseClient as Client
from runtimeuse_sync.runtime import LocalRuntime

WORK = "echo started; sleep 30"


def by_abort(session: RuntimeUseSession) -> None:
    """`abort` is safe in any thread, callback and signal handler."""
    session.query(WORK, on_assistant_message=lambda _: threading.Timer(0.1, session.abort).start())


def by_ctrl_c(session: RuntimeUseSession) -> None:
    def press_ctrl_c(_: AssistantMessageInterface) -> None:
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()

    session.query(WORK, on_assistant_message=press_ctrl_c)


def by_a_flag(session: RuntimeUseSession) -> None:
    """For what cannot call `abort`: an event, a row in a database, a task that is revoked."""
    flag = threading.Event()
    threading.Timer(0.1, flag.set).start()
    session.query(WORK, cancel_when=flag.is_set, cancel_poll_interval=0.1)


def by_timeout(session: RuntimeUseSession) -> None:
    """Limits the whole call, whatever it is doing."""
    session.query(WORK, timeout=0.3)


def by_idle_timeout(session: RuntimeUseSession) -> None:
    """Limits the time since the last message from the runtime."""
    session.query(WORK, idle_timeout=0.3)


def by_callback_timeout(session: RuntimeUseSession) -> None:
    """Limits each call of the callback, which then runs in a helper thread."""
    session.query(WORK, on_assistant_message=lambda _: time.sleep(1), assistant_callback_timeout=0.3)


def show(end: Callable[[RuntimeUseSession], None], session: RuntimeUseSession) -> None:
    started = time.monotonic()
    try:
        end(session)
    except (RuntimeUseError, CancelledException, KeyboardInterrupt) as error:
        seconds = time.monotonic() - started
        text = str(error).partition("\n")[0]
        print(f"{end.__name__:20} {type(error).__name__:18} after {seconds:.1f} s  {text}".rstrip())
    assert session.query("echo still here").text == "still here\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, LocalRuntime(root=directory) as runtime:
        with Client(runtime.ws_url, model="any").session() as session:
            for end in (by_abort, by_ctrl_c, by_a_flag, by_timeout, by_idle_timeout, by_callback_timeout):
                show(end, session)
            print("the session has outlived them all")
