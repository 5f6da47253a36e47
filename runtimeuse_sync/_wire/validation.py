"""Checks of the arguments that users pass in.

Each check raises `TypeError` for a wrong type and `ValueError` for an invalid value. The message names the argument and
never repeats a value that may be secret.

Threads: pure functions; each runs in its caller's thread.
"""

import functools
import inspect
import json
import math
import re
from datetime import timedelta
from pathlib import PurePath
from typing import Any, Mapping, Optional, Sequence, Tuple, Type, Union
from urllib.parse import urlsplit

from .urls import PROXY_SCHEMES, SCHEMES_IN_WORDS, is_websocket_scheme

#: A time as an argument: a number of seconds, or a `timedelta`.
Seconds = Union[float, timedelta]

#: A path in the sandbox as an argument: its text, or a path object.
SandboxPath = Union[str, PurePath]

_HEADER_NAME = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"


def check_type(name: str, value: Any, wanted: Union[Type[Any], Tuple[Type[Any], ...]], described: str) -> None:
    """Raises `TypeError` unless `value` is an instance of `wanted`. A bool does not pass as a number."""
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise TypeError(f"{name} must be {described}, not {type(value).__name__}")


def check_str(name: str, value: Any) -> None:
    """Raises `TypeError` unless `value` is a str."""
    check_type(name, value, str, "a str")


def check_text(name: str, value: Any) -> None:
    """Raises unless `value` is a str that is not blank."""
    check_str(name, value)
    if not value.strip():
        raise ValueError(f"{name} must not be empty")


def seconds(value: Any) -> Any:
    """Returns a `timedelta` as its number of seconds; any other value unchanged."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def path_text(value: Any) -> Any:
    """Returns a path object as text, with slashes, as paths in a sandbox have; any other value unchanged."""
    return value.as_posix() if isinstance(value, PurePath) else value


def path_texts(value: Any) -> Any:
    """Returns a list or tuple of paths with each path object as text; any other value unchanged."""
    return [path_text(item) for item in value] if isinstance(value, (list, tuple)) else value


def check_seconds(name: str, value: Any) -> None:
    """Raises unless `value` is a positive number of seconds, or `None` (no limit)."""
    if value is None:
        return
    check_type(name, value, (int, float), "a number of seconds or None")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} is more seconds than a float can hold") from None
    if math.isnan(number) or number <= 0:
        raise ValueError(f"{name} must be more than 0 seconds (None is no limit), not {value!r}")


def check_wait(name: str, value: Any) -> None:
    """Raises unless `value` is a number of seconds to wait, which may be 0, or `None` (no limit)."""
    if value != 0 or isinstance(value, bool):
        check_seconds(name, value)


def check_interval(name: str, value: Any) -> None:
    """Raises unless `value` is a positive, finite number of seconds."""
    check_type(name, value, (int, float), "a number of seconds")
    check_seconds(name, value)
    if math.isinf(value):
        raise ValueError(f"{name} must be a finite number of seconds")


def check_size(name: str, value: Any, *, allow_zero: bool = False) -> None:
    """Raises unless `value` is a positive number of bytes, or 0 with `allow_zero`."""
    check_type(name, value, int, "a number of bytes")
    if allow_zero and value < 0:
        raise ValueError(f"{name} must be 0 bytes or more, not {value}")
    if value <= 0 and not allow_zero:
        raise ValueError(f"{name} must be more than 0 bytes, not {value}")


def check_str_list(name: str, value: Any) -> None:
    """Raises unless `value` is a list or tuple of non-empty strs."""
    check_type(name, value, (list, tuple), "a list of str")
    for index, item in enumerate(value):
        check_str(f"{name}[{index}]", item)
        if not item:
            raise ValueError(f"{name}[{index}] must not be empty")


def check_list_of(name: str, value: Any, wanted: Type[Any]) -> None:
    """Raises `TypeError` unless `value` is a list or tuple of instances of `wanted`."""
    check_type(name, value, (list, tuple), f"a list of {wanted.__name__}")
    for index, item in enumerate(value):
        check_type(f"{name}[{index}]", item, wanted, f"a {wanted.__name__}")


def check_env(name: str, value: Any) -> None:
    """Raises unless `value` is `None`, or maps str to str such that an operating system accepts it as environment."""
    if value is None:
        return
    check_type(name, value, Mapping, "a dict (or another mapping) of str to str")
    for key, item in value.items():
        check_str(f"a key of {name}", key)
        if not key or "=" in key or "\0" in key:
            raise ValueError(f"{name}: {_valid_start(key)} is not a valid name for an environment variable")
        check_str(f"{name}[{key!r}]", item)
        if "\0" in item:
            raise ValueError(f"{name}[{key!r}] contains a NUL character")


def check_callback(name: str, value: Any) -> None:
    """Raises `TypeError` unless `value` is callable and not a coroutine function."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    function = value
    while isinstance(function, functools.partial):
        function = function.func
    for candidate in (function, type(function).__call__):
        if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
            raise TypeError(f"{name} is a coroutine function; runtimeuse_sync calls plain functions")


def check_schema_text(name: str, value: Any) -> None:
    """Raises unless `value` is JSON text. What the JSON means is up to the agent."""
    check_type(name, value, str, "JSON text as a str")
    try:
        # Numbers stay text: JSON does not limit their digits, Python does.
        json.loads(value, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not valid JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def check_artifact_pairing(directories: Optional[Sequence[str]], directory: Optional[str], callback: Any) -> None:
    """Raises `ValueError` unless artifact directories and the upload callback are both set, or neither is."""
    if bool(directories or directory) != (callback is not None):
        raise ValueError("artifacts_dirs (or artifacts_dir) and on_artifact_upload_request must be specified together")


def check_ws_url(name: str, value: Any) -> None:
    """Raises unless `value` is the URL of a runtime: one of its schemes, a host, no spaces or control characters."""
    check_str(name, value)
    if any(character <= " " or character == "\x7f" for character in value):
        raise ValueError(f"{name} contains a space or a control character")
    _check_encodable(name, value)
    if "#" in value:
        raise ValueError(f"{name} must not have a fragment (RFC 6455 §3); write a literal # as %23")
    try:
        parts = urlsplit(value)
        port = parts.port
        host = parts.hostname
    except ValueError:
        raise ValueError(f"{name} is not a URL: its host or port is invalid") from None
    if not is_websocket_scheme(parts.scheme):
        # Not shown: in a URL without a scheme, the user name may be parsed as one.
        raise ValueError(f"{name} must begin with {SCHEMES_IN_WORDS}")
    if not host:
        raise ValueError(f"{name} has no host")
    if port == 0:
        raise ValueError(f"{name} must not have port 0, which cannot be connected to")


def check_proxy_url(name: str, value: Any) -> None:
    """Raises unless `value` is the URL of an HTTP or SOCKS proxy, or `""` (no proxy)."""
    check_str(name, value)
    if not value:
        return
    _check_encodable(name, value)
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError(f"{name} is not a URL: its host or port is invalid") from None
    if parts.scheme not in PROXY_SCHEMES or not parts.hostname:
        raise ValueError(f"{name} must be an http:// or socks5h:// URL (or socks4, socks4a, socks5) with a host")


def check_statuses(name: str, value: Any) -> None:
    """Raises unless `value` is a collection of HTTP statuses that refuse a WebSocket: any but 101."""
    check_type(name, value, (list, tuple, set, frozenset), "a list of HTTP statuses")
    for item in value:
        check_type(f"an item of {name}", item, int, "an HTTP status")
        if not 200 <= item <= 599:
            raise ValueError(f"{name}: {item} is not an HTTP status that refuses a connection (200 to 599)")


def check_header(name: str, key: Any, value: Any) -> None:
    """Raises unless key and value form an HTTP header (RFC 7230 §3.2: a token as name, no control characters)."""
    check_str(f"a key of {name}", key)
    if not re.fullmatch(_HEADER_NAME, key):
        raise ValueError(f"{name}: {_valid_start(key)} is not a valid name for an HTTP header")
    check_str(f"{name}[{key!r}]", value)
    _check_encodable(f"{name}[{key!r}]", value)
    if any((character < " " and character != "\t") or character == "\x7f" for character in value):
        raise ValueError(f"{name}[{key!r}] contains a control character")


def _check_encodable(name: str, value: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{name} contains a lone surrogate, which is half a character") from None


def _valid_start(name: str) -> str:
    """Returns an invalid name, quoted and cut at the first unusual character: what follows may be a secret value."""
    shown = re.match("[A-Za-z0-9_-]*", name)
    assert shown is not None
    return repr(name if shown.end() == len(name) else name[: shown.end()] + "…")
