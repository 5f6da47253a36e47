"""The protocol of sandboxes, and the sandbox of a provider: a URL, headers, and a way to end it.

Threads: nothing is shared; each method runs in its caller's thread.
"""

from typing import Any, Callable, Dict, Mapping, Optional, Protocol, runtime_checkable

from .._wire import validation as check
from .._wire.urls import url_origin


@runtime_checkable
class Sandbox(Protocol):
    """A machine, or a process, in which an agent runtime runs.

    Whatever has these three is one; nothing needs to inherit from it.
    """

    @property
    def ws_url(self) -> str:
        """The runtime's URL, as a client takes it.

        Its scheme is `wss://` or `https://`, or without TLS `ws://` or `http://`.
        """

    @property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers that let a client in; empty if it needs none."""

    def kill(self) -> Any:
        """Ends the sandbox, with everything that runs in it. May be called again. What it returns is not used."""


class RemoteSandbox:
    """The sandbox of a provider.

    Args:
        ws_url: The runtime's URL as the provider gives it, `https://` or `wss://`. What is secret in it is not shown.
        headers: The HTTP headers that let a client in: the provider's token, the runtime's (default: none).
        kill: Ends the sandbox, such as a method of the provider's SDK. Use what `ensure_killed` yields, and the sandbox
            is ended once only.

    Raises:
        TypeError: An argument has the wrong type; the message names it.
        ValueError: The URL or a header is invalid; the message names it.
    """

    def __init__(self, ws_url: str, headers: Optional[Mapping[str, str]] = None, *, kill: Callable[[], object]) -> None:
        check.check_ws_url("ws_url", ws_url)
        if headers is not None:
            check.check_type("headers", headers, Mapping, "a mapping of str to str")
            for name, value in headers.items():
                check.check_header("headers", name, value)
        check.check_callback("kill", kill)
        self._ws_url = ws_url
        self._headers: Dict[str, str] = dict(headers or {})
        self._kill = kill

    @property
    def ws_url(self) -> str:
        """The runtime's URL, as it was given."""
        return self._ws_url

    @property
    def headers(self) -> Dict[str, str]:
        """The HTTP headers that let a client in, as a copy."""
        return dict(self._headers)

    def kill(self) -> None:
        """Ends the sandbox.

        Raises:
            Exception: Whatever the given function raises.
        """
        self._kill()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({url_origin(self._ws_url)!r})"
