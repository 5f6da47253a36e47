"""Which views of the project stream a run by a synchronous iterator, as far as their code tells.

A view counts if it is no coroutine function, and the names in its code, or in that of a function that it names, are
those of a streaming response and of a client's stream. Nothing is called.

Threads: none of its own.
"""

import inspect
from types import CodeType, FunctionType
from typing import Any, Iterator, List, Set

from django.urls import URLResolver, get_resolver

_RESPONSE = "StreamingHttpResponse"
_STREAMS = frozenset({"stream", "stream_commands"})


def streaming_views() -> List[str]:
    """Returns the names of the views that stream a run by a synchronous iterator."""
    found = {_name(view) for view in _views(get_resolver()) if _streams(view)}
    return sorted(found)


def _views(resolver: Any) -> Iterator[Any]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from _views(pattern)
        else:
            yield pattern.callback


def _streams(view: Any) -> bool:
    functions = list(_functions_of(view))
    if any(inspect.iscoroutinefunction(function) for function in functions):
        return False
    names: Set[str] = set()
    for function in functions:
        own = set(_names(function.__code__))
        names |= own
        for name in own:
            named = function.__globals__.get(name)
            if isinstance(named, FunctionType) and named.__module__ == function.__module__:
                names |= set(_names(named.__code__))
    return _RESPONSE in names and bool(names & _STREAMS)


def _functions_of(view: Any) -> Iterator[FunctionType]:
    """Yields the functions that a view consists of: it, or the methods of its class."""
    of_class = getattr(view, "view_class", None)
    if of_class is not None:
        yield from (each for each in vars(of_class).values() if isinstance(each, FunctionType))
        return
    plain = inspect.unwrap(view)
    if isinstance(plain, FunctionType):
        yield plain


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _name(view: Any) -> str:
    shown = getattr(view, "view_class", None) or inspect.unwrap(view)
    return f"{shown.__module__}.{shown.__qualname__}"
