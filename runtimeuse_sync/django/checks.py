"""The app's system checks: what is wrong with the setting `RUNTIMEUSE` and with what the app relies on.

| id | what is wrong |
| --- | --- |
| `runtimeuse.E001` | the setting, or what it says of an alias, is no dictionary |
| `runtimeuse.E002` | a key is unknown |
| `runtimeuse.E003` | a value has the wrong type, or is invalid |
| `runtimeuse.E004` | an alias has no URL, and the environment has none either |
| `runtimeuse.W001` | there is no alias `default` |
| `runtimeuse.W002` | with `DEBUG` off, an unencrypted URL leads to another host |
| `runtimeuse.W003` | with `DEBUG` off, the default cache serves one process only, or none |
| `runtimeuse.W004` | there is an ASGI application, and a view streams a run by a synchronous iterator |

Nothing that is callable or lazy in the settings is looked at: a secret may be out of reach where checks run. No text
has a value that may be secret. Whether a view streams is read from the names in its code (`_views.py`), so a view that
is built in another way is not noticed.

Threads: Django runs checks in the thread that starts the process.
"""

import os
from typing import Any, Dict, Iterator, List, Mapping, Optional
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  # as Django calls it
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import LazyObject, Promise
from django.utils.module_loading import import_string

from .._wire.urls import is_loopback, is_secure, url_origin
from ..client import URL_VARIABLE, RuntimeUseClient
from ._settings import DEFAULT_ALIAS, IMPORT_FAILED, KEYS, NAMED_BY_PATH, OBJECTS, SETTING, aliases, did_you_mean
from ._views import streaming_views

#: The tag of these checks.
TAG = "runtimeuse"

#: Any URL: what is checked is the argument beside it.
_ANY_URL = "ws://localhost"

#: The caches of Django that no two processes share.
_OF_ONE_PROCESS = (
    "django.core.cache.backends.locmem.LocMemCache",
    "django.core.cache.backends.dummy.DummyCache",
)


def _error(number: int, text: str, hint: str) -> Error:
    return Error(text, hint=hint, id=f"{TAG}.E{number:03}")


def _warning(number: int, text: str, hint: str) -> Warning:
    return Warning(text, hint=hint, id=f"{TAG}.W{number:03}")


@register(TAG)
def check_settings(**_: Any) -> List[Any]:
    """Checks the setting `RUNTIMEUSE`: E001 to E004, W001 and W002."""
    try:
        found = aliases()
    except ImproperlyConfigured as error:
        return [_error(1, str(error), f'{SETTING} = {{"default": {{"WS_URL": "wss://…", "MODEL": "…"}}}}')]
    messages: List[CheckMessage] = []
    if DEFAULT_ALIAS not in found:
        messages.append(
            _warning(
                1,
                f"{SETTING} has no alias {DEFAULT_ALIAS!r}.",
                f"get_client() without an alias fails; {did_you_mean(DEFAULT_ALIAS, map(str, found))}.",
            )
        )
    for alias, given in found.items():
        messages += _of_alias(f"{SETTING}[{alias!r}]", given)
    return messages


def _of_alias(where: str, given: Any) -> Iterator[CheckMessage]:
    if not isinstance(given, Mapping):
        yield _error(1, f"{where} is no dictionary, but a {type(given).__name__}.", '{"WS_URL": "wss://…"}')
        return
    for key, value in given.items():
        if key not in KEYS:
            yield _error(2, f"{where} has the unknown key {key!r}.", _sentence(did_you_mean(key, KEYS)))
            continue
        problem = _problem(key, value)
        if problem:
            hint = f"It is the argument {KEYS[key]!r} of RuntimeUseClient, whose documentation says what it may be."
            yield _error(3, f"{where}[{key!r}] is wrong: {problem}.", hint)
    if given.get("TRANSPORT") is not None:
        return
    url = given.get("WS_URL")
    url = None if _is_text(url) and not url else url
    if url is None and not os.environ.get(URL_VARIABLE):
        hint = f"Set {where}['WS_URL'], or the environment variable {URL_VARIABLE}."
        yield _error(4, f"{where} has no 'WS_URL', and the environment no {URL_VARIABLE}.", hint)
    yield from _of_url(where, os.environ.get(URL_VARIABLE) if url is None else url)


def _of_url(where: str, url: Any) -> Iterator[CheckMessage]:
    if settings.DEBUG or not _is_text(url) or _problem("WS_URL", url):
        return
    if not is_secure(url) and not is_loopback(urlsplit(url).hostname or ""):
        yield _warning(
            2,
            f"{where}['WS_URL'] leads to another host, {url_origin(url)}, without encryption, and DEBUG is off.",
            "Prompts, answers and secrets can be read on the way: use wss://. If that network is yours alone, add "
            f"'{TAG}.W002' to SILENCED_SYSTEM_CHECKS.",
        )


def _problem(key: str, value: Any) -> Optional[str]:
    """Returns what is wrong with the value of a key, as far as it is there; `None` if nothing is."""
    if key in ("WS_URL", "TRANSPORT") and (value is None or (_is_text(value) and not value)):
        return None
    if _is_text(value):
        if key == "LOGGER":
            return None
        if key in NAMED_BY_PATH:
            try:
                value = import_string(value)
            except IMPORT_FAILED as error:
                return str(error)
    if issubclass(type(value), LazyObject):
        return None
    if key not in OBJECTS:
        if _is_deferred(value):
            return None
        value = _without_deferred(value)
    name = KEYS[key]
    keywords: Dict[str, Any] = {} if name == "transport" else {"ws_url": _ANY_URL}
    try:
        RuntimeUseClient(**{**keywords, name: value})
    except (TypeError, ValueError) as error:
        return str(error).rstrip(".")
    return None


def _is_text(value: Any) -> bool:
    """Returns whether a value is a str, and not a lazy one, which `isinstance` would evaluate."""
    return issubclass(type(value), str)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith("?") else ".")


def _is_deferred(value: Any) -> bool:
    """Returns whether a value is only known when a client is made."""
    return issubclass(type(value), (Promise, LazyObject)) or callable(value)


def _without_deferred(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if not _is_deferred(item)}
    if isinstance(value, (list, tuple)):
        return [item for item in value if not _is_deferred(item)]
    return value


@register(TAG)
def check_cache(**_: Any) -> List[Any]:
    """Checks whether processes share the default cache: W003."""
    backend = settings.CACHES.get("default", {}).get("BACKEND")
    if settings.DEBUG or backend not in _OF_ONE_PROCESS:
        return []
    kind = backend.rpartition(".")[2]
    what = "is not shared by processes" if kind.startswith("Loc") else "keeps nothing"
    return [
        _warning(
            3,
            f"The default cache, {kind}, {what}, and DEBUG is off.",
            "request_cancel reaches no run in another process, and upload URLs of storage_uploads are not good for one "
            f"use only. Use a cache that all processes share, such as Redis. If you need neither, add '{TAG}.W003' to "
            "SILENCED_SYSTEM_CHECKS.",
        )
    ]


@register(TAG)
def check_streaming(**_: Any) -> List[Any]:
    """Checks for views that stream a run by a synchronous iterator under ASGI: W004."""
    if not getattr(settings, "ASGI_APPLICATION", None) or not getattr(settings, "ROOT_URLCONF", None):
        return []
    return [
        _warning(
            4,
            f"The view {name} streams a run by a synchronous iterator, and there is an ASGI_APPLICATION.",
            "Under ASGI, Django consumes such an iterator whole before it sends anything. Return "
            "event_stream(run, request), which works under both.",
        )
        for name in streaming_views()
    ]
