"""Removes the settings of the machine that runs the tests: proxies, variables, ignored signals, name servers."""

from __future__ import annotations

import os
import re
import signal
import socket
from typing import Any, Dict

#: Where the client and the runtime would look, how wide and colourful an interpreter would print. Not what the tests
#: themselves are told.
_SETTINGS = re.compile(
    r"(?i)(\w+_proxy|RUNTIMEUSE_(?!(RELIABILITY|SEED|AUTOBAHN)$)\w+|OPENAI_\w+|ANTHROPIC_\w+|CLAUDE\w*|IS_SANDBOX"
    r"|DJANGO_SETTINGS_MODULE|NETRC|COLUMNS|LINES|FORCE_COLOR"
    r"|PYTHON_COLORS|PYTHONWARNINGS|PYTHONSTARTUP|PYTHONINSPECT)$"
)

#: What `forget_settings` has taken out of the environment: for what is installed over the network.
settings: Dict[str, str] = {}

#: Signals that `nohup`, a shell's `&` or a supervisor may have had ignored, which child processes inherit.
_SIGNALS = ("SIGHUP", "SIGTERM", "SIGQUIT", "SIGCHLD", "SIGALRM", "SIGUSR1")


def forget_settings() -> None:
    """Takes out of this process's environment, and so of its children's, what is not for tests."""
    for name in list(os.environ):
        if _SETTINGS.match(name):
            settings[name] = os.environ.pop(name)


def heed_signals() -> None:
    """Has child processes begin with the usual reaction to signals, whatever this process was started with."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in _SIGNALS:
        number = getattr(signal, name)
        if signal.getsignal(number) is signal.SIG_IGN:
            # A handler that does nothing: this process goes on to ignore it, what it executes does not.
            signal.signal(number, signal.SIG_DFL if name == "SIGCHLD" else _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {getattr(signal, name) for name in (*_SIGNALS, "SIGINT")})


def _ignore(*_: Any) -> None:
    return


look_up = socket.getaddrinfo


def look_up_at_home(host: Any, *arguments: Any, **more: Any) -> Any:
    """Like `socket.getaddrinfo`, but does not ask the network for names that are nobody's, which may take its time.

    Some name servers even answer for them, with the address of a page of advertisements.
    """
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if isinstance(name, str) and (name == "." or name.rstrip(".").lower().endswith((".invalid", ".example"))):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return look_up(host, *arguments, **more)
