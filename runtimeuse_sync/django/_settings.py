"""The setting `RUNTIMEUSE`: what each alias says, as the arguments of its client.

One rule makes the keys: each argument of `RuntimeUseClient` is one, in upper case. Values are the arguments, but for
what settings cannot hold as it is:

- A callable is called, without arguments, when the client is made, and so is one inside a list or a dictionary. Lazy
  objects of Django are evaluated then. So a secret need not be there when the settings are loaded.
- Where the argument itself is a callable or an object (callbacks, `TRANSPORT`, `SSL_CONTEXT`), a str is the dotted path
  of it. `LOGGER` is a logger or a logger's name.

Threads: none of its own. Whoever makes a client reads the settings.
"""

import difflib
import inspect
import logging
from typing import Any, Container, Dict, Iterable, Mapping

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import LazyObject, Promise
from django.utils.module_loading import import_string

from ..client import RuntimeUseClient
from ..options import CALLBACKS_AND_LOGGER

#: The name of the setting.
SETTING = "RUNTIMEUSE"

#: The alias of whoever names none.
DEFAULT_ALIAS = "default"

#: The keys of an alias, with the arguments of `RuntimeUseClient` that they set.
KEYS: Mapping[str, str] = {name.upper(): name for name in inspect.signature(RuntimeUseClient).parameters}

#: The keys whose values the client calls itself, or that are loggers: they are passed on as they are.
OBJECTS = frozenset({"TRANSPORT", *(name.upper() for name in CALLBACKS_AND_LOGGER)})

#: The keys for which a str is the dotted path of the value.
NAMED_BY_PATH = (OBJECTS | {"SSL_CONTEXT"}) - {"LOGGER"}

#: What importing a dotted path raises; the last two for a path that begins with a dot.
IMPORT_FAILED = (ImportError, TypeError, ValueError)


def aliases() -> Mapping[str, Any]:
    """Returns the setting: what it says of each alias. Without the setting, there is a default that says nothing.

    Raises:
        ImproperlyConfigured: The setting is no dictionary.
    """
    given: Any = getattr(settings, SETTING, None)
    if given is None:
        return {DEFAULT_ALIAS: {}}
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(
            f"{SETTING} must be a dictionary of aliases, such as {{'default': {{'WS_URL': 'ws://…'}}}}, "
            f"not {type(given).__name__}"
        )
    return given


def settings_of(alias: str) -> Mapping[str, Any]:
    """Returns what the setting says of an alias, its keys checked.

    Raises:
        ImproperlyConfigured: There is no such alias, or what there is of it is no dictionary, or has an unknown key.
    """
    all_aliases = aliases()
    if alias not in all_aliases:
        raise ImproperlyConfigured(
            f"{SETTING} has no alias {alias!r}; {did_you_mean(alias, [str(each) for each in all_aliases])}"
        )
    given: Any = all_aliases[alias]
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"{SETTING}[{alias!r}] must be a dictionary, not {type(given).__name__}")
    for key in given:
        if key not in KEYS:
            raise ImproperlyConfigured(f"{SETTING}[{alias!r}] has an unknown key {key!r}; {did_you_mean(key, KEYS)}")
    return given


def arguments(alias: str, without: Container[str] = ()) -> Dict[str, Any]:
    """Returns the arguments of the client of an alias. Calls what is callable, and imports what is named by its path.

    Args:
        alias: The alias.
        without: Arguments to leave out.

    Raises:
        ImproperlyConfigured: The alias is not set up, or a dotted path leads to nothing.
        Exception: What a callable raises.
    """
    return {
        KEYS[key]: _argument(alias, key, value) for key, value in settings_of(alias).items() if KEYS[key] not in without
    }


def did_you_mean(wrong: object, known: Iterable[str]) -> str:
    """Returns what to say of a name that does not exist: a similar one, or all there are."""
    known = sorted(known)
    text = str(wrong)
    similar = [name for name in known if name.lower() == text.lower()] or difflib.get_close_matches(text, known, n=1)
    return f"did you mean {similar[0]!r}?" if similar else f"there are {', '.join(map(repr, known)) or 'none'}"


def _argument(alias: str, key: str, value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Promise) and value:
        if key in NAMED_BY_PATH:
            try:
                value = import_string(value)
            except IMPORT_FAILED as error:
                raise ImproperlyConfigured(f"{SETTING}[{alias!r}][{key!r}]: {error}") from error
        elif key == "LOGGER":
            return logging.getLogger(value)
    return evaluated(value) if key not in OBJECTS else _unwrapped(value)


def evaluated(value: Any) -> Any:
    """Returns a value with all that is lazy or callable, also in lists and dictionaries, replaced by its value."""
    value = _unwrapped(value)
    if isinstance(value, Mapping):
        return {key: evaluated(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [evaluated(item) for item in value]
    return evaluated(value()) if callable(value) else value


def _unwrapped(value: Any) -> Any:
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, LazyObject):
        bool(value)  # It is evaluated with its first use.
        return value.__dict__["_wrapped"]
    return value


def uses_the_environment(keywords: Mapping[str, Any]) -> bool:
    """Returns whether a client with these arguments has its URL from the environment."""
    return keywords.get("ws_url") is None and keywords.get("transport") is None
