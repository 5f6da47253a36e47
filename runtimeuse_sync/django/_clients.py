"""`get_client`: one client a process and alias.

A client is made with the first call for its alias and kept. It is made anew when something that it was made of is no
longer so: `override_settings` changes the setting, a test leads code to a runtime of its own (`lead_to`), or, for an
alias without a URL, the environment names another one. A child process begins with none: what its parent's clients have
in flight is not the child's.

Threads: any thread may ask. A lock guards the clients. It is reentrant, since a callable in the settings may ask for
another alias; a child of a fork gets a new one, since a thread that it does not have may have held it.
"""

import contextlib
import os
import threading
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from .._wire import validation as check
from ..client import URL_VARIABLE, RuntimeUseClient
from ._settings import DEFAULT_ALIAS, SETTING, arguments, uses_the_environment

#: The arguments that say where a runtime is and how it is reached: a test's own runtime needs none of them.
_WAY = ("ws_url", "transport", "headers", "proxy", "ssl_context")


class _Clients:
    """The clients of this process.

    Attributes:
        runtime: The URL of the runtime that all aliases lead to; `None` but in tests.
    """

    def __init__(self) -> None:
        self.runtime: Optional[str] = None
        self.begin_again()

    def begin_again(self) -> None:
        """Forgets all clients, and who holds the lock."""
        self._lock = threading.RLock()
        self._made: Dict[str, Tuple[RuntimeUseClient, Optional[str]]] = {}

    def forget(self) -> None:
        """Forgets all clients. What they have in flight goes on."""
        with self._lock:
            self._made.clear()

    def get(self, alias: str) -> RuntimeUseClient:
        with self._lock:
            found = self._made.get(alias)
            if found is None or found[1] not in (None, os.environ.get(URL_VARIABLE)):
                found = self._made[alias] = self._new(alias)
            return found[0]

    def _new(self, alias: str) -> Tuple[RuntimeUseClient, Optional[str]]:
        """Returns a new client, and its URL if that is from the environment."""
        keywords = self._keywords(alias)
        url = (os.environ.get(URL_VARIABLE) or None) if uses_the_environment(keywords) else None
        return client_of(alias, keywords), url

    def _keywords(self, alias: str) -> Dict[str, Any]:
        if self.runtime is not None:
            return {**arguments(alias, without=_WAY), "ws_url": self.runtime}
        return arguments(alias)

    def new(self, alias: str, more: Mapping[str, Any]) -> RuntimeUseClient:
        """Returns a new client with some arguments in place of the alias' own; headers are added."""
        keywords = self._keywords(alias)
        if keywords.get("transport") is not None:
            # It has neither headers nor time limits for connecting.
            return client_of(alias, {**keywords, **{name: more[name] for name in ("timeout",) if name in more}})
        headers = {**(keywords.get("headers") or {}), **more.get("headers", {})}
        rest = {name: value for name, value in {**keywords, **more}.items() if name != "headers"}
        return client_of(alias, {**rest, **({"headers": headers} if headers else {})})


def client_of(alias: str, keywords: Mapping[str, Any]) -> RuntimeUseClient:
    """Returns a new client.

    Raises:
        ImproperlyConfigured: There is no URL, or an argument is wrong.
    """
    if uses_the_environment(keywords) and not os.environ.get(URL_VARIABLE):
        raise ImproperlyConfigured(f"{SETTING}[{alias!r}] has no 'WS_URL', and the environment no {URL_VARIABLE}")
    try:
        return RuntimeUseClient(**keywords)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"{SETTING}[{alias!r}]: {error}") from error


_clients = _Clients()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_clients.begin_again)


def get_client(alias: str = DEFAULT_ALIAS) -> RuntimeUseClient:
    """Returns the client of an alias in the setting `RUNTIMEUSE`: the same one with each call in this process.

    It is made with the first call, also after a fork, and anew after `override_settings`. Any number of threads may
    share it. So its `abort` cancels what all of them have in flight: to cancel one run, use a stream's `abort` or
    `cancel_when`.

    Args:
        alias: The alias (default `"default"`).

    Raises:
        ImproperlyConfigured: There is no such alias, or its settings are wrong: an unknown key, a wrong type, an
            invalid value, no URL. The message names alias and key.
        TypeError: `alias` is not a str.
        Exception: What a callable in the settings raises.
    """
    check.check_str("alias", alias)
    return _clients.get(alias)


def new_client(alias: str, more: Mapping[str, Any]) -> RuntimeUseClient:
    """Returns a client of an alias for one purpose, with some arguments in place of the alias' own; headers are added.

    Raises:
        ImproperlyConfigured: As `get_client`.
        Exception: What a callable in the settings raises.
    """
    return _clients.new(alias, more)


@contextlib.contextmanager
def lead_to(ws_url: str) -> Iterator[None]:
    """Leads all aliases to the runtime of a test, for a `with` block. Of their settings, those of calls are in force.

    Args:
        ws_url: The runtime's URL.
    """
    before, _clients.runtime = _clients.runtime, ws_url
    _clients.forget()
    try:
        yield
    finally:
        _clients.runtime = before
        _clients.forget()


def _on_setting_changed(*, setting: str, **_others: Any) -> None:
    if setting == SETTING:
        _clients.forget()


setting_changed.connect(_on_setting_changed, dispatch_uid="runtimeuse")
