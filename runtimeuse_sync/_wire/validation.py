"""Checks of what users pass in: each raises a `TypeError` or `ValueError` that names the argument.

`TypeError` is for a wrong type, `ValueError` for a value that cannot be. No message repeats a value that may be secret.
Pure functions; no threads run here.
"""

import functools
import inspect
import json
import math
import re
from typing import Any, Mapping, Optional, Sequence, Tuple, Type, Union
from urllib.parse import urlsplit

from .urls import PROXY_SCHEMES


def check_type(name: str, value: Any, wanted: Union[Type[Any], Tuple[Type[Any], ...]], described: str) -> None:
    """Raises `TypeError` unless `value` is of the wanted type (a bool is never taken for a number)."""
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise TypeError(f"{name} must be {described}, not {type(value).__name__}")


def check_str(name: str, value: Any) -> None:
    """Raises `TypeError` unless `value` is a str."""
    check_type(name, value, str, "a str")


def check_text(name: str, value: Any) -> None:
    """Raises unless `value` is a str with something in it."""
    check_str(name, value)
    if not value.strip():
        raise ValueError(f"{name} must not be empty")


def check_seconds(name: str, value: Any) -> None:
    """Raises unless `value` is `None` (no limit) or a positive number of seconds."""
    if value is None:
        return
    check_type(name, value, (int, float), "a number of seconds or None")
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(f"{name} is more seconds than a float can hold") from None
    if math.isnan(seconds) or seconds <= 0:
        raise ValueError(f"{name} must be more than 0 seconds (None is no limit), not {value!r}")


def check_str_list(name: str, value: Any, *, empty_items: bool = False) -> None:
    """Raises unless `value` is a list or tuple of str, with something in each."""
    check_type(name, value, (list, tuple), "a list of str")
    for index, item in enumerate(value):
        check_str(f"{name}[{index}]", item)
        if not item and not empty_items:
            raise ValueError(f"{name}[{index}] must not be empty")


def _beginning(name: str) -> str:
    """Returns a name that cannot be one, quoted up to what makes it so: a secret value may have slipped in."""
    shown = re.match("[A-Za-z0-9_-]*", name)
    assert shown is not None
    return repr(name if shown.end() == len(name) else name[: shown.end()] + "…")


def check_env(name: str, value: Any) -> None:
    """Raises unless `value` is `None` or maps str to str, as an operating system takes it for an environment."""
    if value is None:
        return
    check_type(name, value, Mapping, "a dict (or another mapping) of str to str")
    for key, item in value.items():
        check_str(f"a key of {name}", key)
        if not key or "=" in key or "\0" in key:
            raise ValueError(f"{name}: {_beginning(key)} cannot be the name of an environment variable")
        check_str(f"{name}[{key!r}]", item)
        if "\0" in item:
            raise ValueError(f"{name}[{key!r}] holds a NUL character")


def check_list_of(name: str, value: Any, wanted: Type[Any]) -> None:
    """Raises unless `value` is `None` or a list or tuple of instances of `wanted`."""
    if value is None:
        return
    check_type(name, value, (list, tuple), f"a list of {wanted.__name__}")
    for index, item in enumerate(value):
        check_type(f"{name}[{index}]", item, wanted, f"a {wanted.__name__}")


def check_callback(name: str, value: Any) -> None:
    """Raises `TypeError` unless `value` is `None` or a plain callable."""
    if value is None:
        return
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    function = value
    while isinstance(function, functools.partial):
        function = function.func
    for candidate in (function, type(function).__call__):
        if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
            raise TypeError(f"{name} is a coroutine function; runtimeuse_sync calls plain functions")


def check_schema_text(name: str, value: Any) -> None:
    """Raises unless `value` is `None` or JSON text; what it says is for the agent to understand."""
    if value is None:
        return
    check_type(name, value, str, "JSON text as a str")
    try:
        # Numbers stay as they are: JSON has no limit for their digits, and Python has.
        json.loads(value, parse_int=str, parse_float=str, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON: {error}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"it has no {name}")


def check_artifact_pairing(directories: Optional[Sequence[str]], directory: Optional[str], callback: Any) -> None:
    """Raises `ValueError` unless artifact directories and the upload callback come together."""
    if bool(directories or directory) != (callback is not None):
        raise ValueError("artifacts_dirs (or artifacts_dir) and on_artifact_upload_request must be specified together")


def check_ws_url(name: str, value: Any) -> None:
    """Raises unless `value` is a URL `ws://host…` or `wss://host…` without control characters or blanks."""
    check_str(name, value)
    if any(character <= " " or character == "\x7f" for character in value):
        raise ValueError(f"{name} holds a blank or a control character")
    _check_encodable(name, value)
    if "#" in value:
        raise ValueError(f"{name} must not have a fragment (RFC 6455 §3); a # that is meant is written %23")
    try:
        parts = urlsplit(value)
        port = parts.port
        host = parts.hostname
    except ValueError:
        raise ValueError(f"{name} is not a URL: its host or port makes no sense") from None
    if parts.scheme not in ("ws", "wss"):
        # No more is shown: what looks like a scheme may be the user name of a URL without one.
        given = f", not {parts.scheme}://" if parts.scheme in ("http", "https") else ""
        raise ValueError(f"{name} must begin with ws:// or wss://{given}")
    if not host:
        raise ValueError(f"{name} names no host")
    if port == 0:
        raise ValueError(f"{name} has the port 0, which nobody can connect to")


def _check_encodable(name: str, value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds half a character (a surrogate)") from None


def check_header(name: str, key: Any, value: Any) -> None:
    """Raises unless key and value can be an HTTP header (RFC 7230 §3.2: a token, and no control characters)."""
    check_str(f"a key of {name}", key)
    if not re.fullmatch("[!#$%&'*+.^_`|~0-9A-Za-z-]+", key):
        raise ValueError(f"{name}: {_beginning(key)} is not a header that HTTP can carry")
    check_str(f"{name}[{key!r}]", value)
    _check_encodable(f"{name}[{key!r}]", value)
    if any((character < " " and character != "\t") or character == "\x7f" for character in value):
        raise ValueError(f"{name}: {key!r} is not a header that HTTP can carry: its value holds a control character")


def check_proxy_url(name: str, value: Any) -> None:
    """Raises unless `value` is the URL of an HTTP or SOCKS proxy, or `""` for none."""
    check_str(name, value)
    if not value:
        return
    _check_encodable(name, value)
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError(f"{name} is not a URL: its host or port makes no sense") from None
    if parts.scheme not in PROXY_SCHEMES or not parts.hostname:
        raise ValueError(f"{name} must be an http:// or socks5h:// URL (socks4, socks4a, socks5) that names a host")


def check_size(name: str, value: Any, *, none_at_all: bool = False) -> None:
    """Raises unless `value` is a positive number of bytes, or 0 with `none_at_all`."""
    check_type(name, value, int, "a number of bytes")
    if none_at_all and value < 0:
        raise ValueError(f"{name} must be 0 bytes or more, not {value}")
    if value <= 0 and not none_at_all:
        raise ValueError(f"{name} must be more than 0 bytes, not {value}")
