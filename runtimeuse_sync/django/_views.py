"""Which views of the project stream a run by a synchronous iterator, as far as their code tells.

A view counts if it is no coroutine function, and the names in its code, or in that of a function that it names, are
those of a streaming response and of a client's stream. It does not if any of that code is an asynchronous generator or
names `asgi`, whose streams are asynchronous. Nothing is called.

Threads: none of its own.
"""

import inspect
from types import CodeType, FunctionType
from typing import Any, Callable, Iterator, List, Set

from django.urls import URLResolver, get_resolver

_RESPONSE = "StreamingHttpResponse"
_STREAMS = frozenset({"stream", "stream_commands"})
#: The names of what makes a stream asynchronous: the module `runtimeuse_sync.asgi`, and what is in it.
_ASYNCHRONOUS = frozenset({"asgi", "AsyncEventStream"})


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
    codes: List[CodeType] = []
    for function in functions:
        codes += _codes(function.__code__)
        for name in _names(codes):
            named = function.__globals__.get(name)
            if isinstance(named, FunctionType) and named.__module__ == function.__module__:
                codes += _codes(named.__code__)
    names = _names(codes)
    if _ASYNCHRONOUS & names or any(code.co_flags & inspect.CO_ASYNC_GENERATOR for code in codes):
        return False
    return _RESPONSE in names and bool(names & _STREAMS)


def _functions_of(view: Any) -> Iterator[FunctionType]:
    """Yields the functions that a view consists of: it, or the methods of its class."""
    of_class = getattr(view, "view_class", None)
    if of_class is not None:
        yield from (each for each in vars(of_class).values() if isinstance(each, FunctionType))
        return
    plain = _unwrapped(view)
    if isinstance(plain, FunctionType):
        yield plain


def _unwrapped(view: Callable[..., Any]) -> Any:
    try:
        return inspect.unwrap(view)
    except ValueError:
        return view  # It wraps itself.


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yields a code, and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _names(codes: List[CodeType]) -> Set[str]:
    return {name for code in codes for name in code.co_names}


def _name(view: Any) -> str:
    shown = getattr(view, "view_class", None) or _unwrapped(view)
    return f"{shown.__module__}.{shown.__qualname__}"
