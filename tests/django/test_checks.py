"""The system checks: each id, its hint, and what they leave alone."""

from __future__ import annotations

from typing import Any, List

import pytest
from django.core.checks import run_checks
from django.http import HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.functional import SimpleLazyObject, lazystr
from django.views import View
from django.views.decorators.http import require_GET

from runtimeuse_sync import asgi
from runtimeuse_sync.asgi import events as asynchronous
from runtimeuse_sync.client import URL_VARIABLE
from runtimeuse_sync.django import get_client
from runtimeuse_sync.testing import FakeRuntime

SHARED = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache"}}
FINE = {"default": {"WS_URL": "wss://runtime.example", "MODEL": "gpt-4.1"}}


@pytest.fixture(autouse=True)
def no_runtime_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)


def found(runtimeuse: Any = None, **settings: Any) -> List[Any]:
    with override_settings(**{"RUNTIMEUSE": FINE if runtimeuse is None else runtimeuse, "CACHES": SHARED, **settings}):
        return list(run_checks(tags=["runtimeuse"]))


def ids(*arguments: Any, **settings: Any) -> List[str]:
    messages = found(*arguments, **settings)
    assert all(message.hint for message in messages)
    return [message.id.replace("runtimeuse.", "") for message in messages]


def alias(**settings: Any) -> Any:
    return {"default": {"WS_URL": "wss://runtime.example", **settings}}


def test_what_is_right_is_left_alone() -> None:
    assert ids() == []


@pytest.mark.parametrize("wrong", [[], "ws://x", {"default": "ws://x"}, {"default": None}])
def test_what_is_no_dictionary(wrong: Any) -> None:
    assert ids(wrong) == ["E001"]


def test_unknown_keys() -> None:
    assert ids(alias(MODLE="x", ANYTHING=1)) == ["E002", "E002"]
    first, second = found(alias(MODLE="x", zzz=1))
    assert first.msg == "RUNTIMEUSE['default'] has the unknown key 'MODLE'."
    assert first.hint == "Did you mean 'MODEL'?"
    assert second.hint.startswith("There are 'AGENT_ENV', ")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"WS_URL": 1}, "ws_url must be a str, not int"),
        ({"WS_URL": "ftp://s3cret@host"}, "ws_url must begin with"),
        ({"TIMEOUT": "60"}, "timeout must be a number of seconds or None, not str"),
        ({"TIMEOUT": 0}, "timeout must be more than 0 seconds"),
        ({"HEADERS": {"A": 1, "B": lambda: "x"}}, "headers"),
        ({"SECRETS_TO_REDACT": [1]}, "secrets_to_redact[0] must be a str"),
        ({"MODEL": " "}, "model must not be empty"),
        ({"TRANSPORT": 3}, "transport"),
        ({"SSL_CONTEXT": "no.such.context"}, "No module named 'no'"),
        ({"ON_HEARTBEAT": ".heartbeats.hear"}, "relative import"),
        ({"SSL_CONTEXT": ".context"}, "Empty module name"),
        ({"ON_HEARTBEAT": 3}, "on_heartbeat must be callable"),
        ({"CHECK": None}, "check"),
        ({"KEEP_OUTPUT": -1}, "keep_output"),
    ],
)
def test_wrong_values(settings: Any, text: str) -> None:
    messages = found(alias(**settings))
    assert [message.id for message in messages] == ["runtimeuse.E003"]
    assert f"RUNTIMEUSE['default'][{next(iter(settings))!r}] is wrong: " in messages[0].msg
    assert text in messages[0].msg
    assert "s3cret" not in messages[0].msg


def test_what_is_only_known_later_is_left_alone() -> None:
    def never(*_: Any) -> Any:
        raise AssertionError

    later = {
        "WS_URL": never,
        "MODEL": SimpleLazyObject(never),
        "SYSTEM_PROMPT": lazystr("x"),
        "HEADERS": {"Authorization": never},
        "SECRETS_TO_REDACT": [never],
        "AGENT_ENV": never,
        "ON_HEARTBEAT": never,
        "LOGGER": "a.name",
        "TIMEOUT": None,
    }
    assert ids({"default": later}) == []


def test_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for nothing in ({}, {"WS_URL": None}, {"WS_URL": ""}):
        assert ids({"default": nothing}) == ["E004"]
        assert ids({"default": {**nothing, "TRANSPORT": FakeRuntime()}}) == []
    assert ids({"default": FINE["default"], "other": {}}) == ["E004"]
    monkeypatch.setenv(URL_VARIABLE, "wss://runtime.example")
    assert ids({"default": {}}) == []


def test_no_default_alias() -> None:
    assert ids({"deafult": FINE["default"]}) == ["W001"]
    assert "did you mean 'deafult'?" in found({"deafult": FINE["default"]})[0].hint
    assert ids({}) == ["W001"]


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("ws://runtime.example:8080/?token=s3cret", True),
        ("http://runtime.example", True),
        ("ws://10.0.0.1", True),
        ("wss://runtime.example", False),
        ("https://runtime.example", False),
        ("ws://localhost:8080", False),
        ("ws://127.0.0.2:8080", False),
        ("ws://[::1]:8080", False),
    ],
)
def test_plain_text_to_other_hosts(url: str, warned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ["W002"] if warned else []
    assert ids(alias(WS_URL=url)) == expected
    assert ids(alias(WS_URL=url), DEBUG=True) == []
    assert "s3cret" not in str(found(alias(WS_URL=url)))
    monkeypatch.setenv(URL_VARIABLE, url)
    assert ids({"default": {}}) == expected


@pytest.mark.parametrize("kind", ["locmem.LocMemCache", "dummy.DummyCache"])
def test_a_cache_of_one_process(kind: str) -> None:
    caches = {"default": {"BACKEND": f"django.core.cache.backends.{kind}"}}
    assert ids(CACHES=caches) == ["W003"]
    assert ids(CACHES=caches, DEBUG=True) == []


def streaming(request: Any) -> StreamingHttpResponse:
    with get_client().stream("…") as run:
        return StreamingHttpResponse(str(message) for message in run)


def pieces() -> Any:
    with get_client().stream_commands(["ls"]) as run:
        yield from run


def by_a_helper(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(pieces())


class ByAClass(View):
    """A class-based view."""

    def get(self, request: Any) -> StreamingHttpResponse:
        return streaming(request)


async def in_a_coroutine(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(get_client().stream("…"))


def by_asgi(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(asgi.events(get_client().stream("…")))


def by_an_asynchronous_generator(request: Any) -> StreamingHttpResponse:
    async def chunks() -> Any:
        async for chunk in asynchronous(get_client().stream("…")):
            yield chunk

    return StreamingHttpResponse(chunks())


def wraps_itself(request: Any) -> HttpResponse:
    return HttpResponse()


wraps_itself.__wrapped__ = wraps_itself  # type: ignore[attr-defined]


def of_a_file(request: Any) -> StreamingHttpResponse:
    return StreamingHttpResponse(open(__file__, "rb"))


def plain(request: Any) -> HttpResponse:
    return HttpResponse(get_client().stream("…").result.text)


SINGLE = (
    streaming,
    in_a_coroutine,
    by_asgi,
    by_an_asynchronous_generator,
    wraps_itself,
    of_a_file,
    plain,
)
urlpatterns = [
    *(path(view.__name__ + "/", view) for view in SINGLE),
    path("decorated/", require_GET(by_a_helper)),
    path("class/", ByAClass.as_view()),
]


def test_streaming_in_a_synchronous_way_under_asgi() -> None:
    assert ids(ROOT_URLCONF=__name__) == []
    messages = found(ROOT_URLCONF=__name__, ASGI_APPLICATION="project.asgi.application")
    assert [message.id for message in messages] == ["runtimeuse.W004"] * 3
    for message, name in zip(messages, ("ByAClass", "by_a_helper", "streaming")):
        assert message.msg.startswith(f"The view {__name__}.{name} streams a run by a synchronous iterator")
    assert ids(ROOT_URLCONF="tests.support.django_project.urls", ASGI_APPLICATION="project.asgi.application") == []
