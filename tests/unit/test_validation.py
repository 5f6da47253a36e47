"""Bad arguments: each raises a TypeError or ValueError that names the argument, before anything is sent."""

from __future__ import annotations

import functools
import logging
import typing
from typing import Any, AsyncIterator, Callable, Dict, List, Optional, Tuple

import pytest

from runtimeuse_sync import (
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeEnvironmentDownloadableInterface,
    RuntimeUseClient,
    RuntimeUseSession,
    WebSocketTransport,
)
from runtimeuse_sync import _requests as requests_module
from runtimeuse_sync.client import URL_VARIABLE
from runtimeuse_sync.keywords import CommandsKeywords, QueryKeywords, WebSocketKeywords

from .doubles import NeverOpened

SECRET = "hunter2-hunter2"


@pytest.fixture
def client() -> RuntimeUseClient:
    return RuntimeUseClient(transport=NeverOpened(), model="m")


def make_callback(kind: str) -> Any:
    async def coroutine(message: Any) -> None: ...

    async def generator(message: Any) -> AsyncIterator[None]:
        yield

    class Object:
        async def __call__(self, message: Any) -> None: ...

        async def method(self, message: Any) -> None: ...

        @staticmethod
        async def static(message: Any) -> None: ...

    made: Dict[str, Any] = {
        "async def": coroutine,
        "partial of async def": functools.partial(coroutine),
        "partial of partial": functools.partial(functools.partial(coroutine)),
        "object with async __call__": Object(),
        "partial of such an object": functools.partial(Object()),
        "async method": Object().method,
        "async static method": Object.static,
        "async generator": generator,
        "a str": "print",
        "a number": 1,
        "False": False,
    }
    return made[kind]


CALLBACK_KINDS = [
    "async def",
    "partial of async def",
    "partial of partial",
    "object with async __call__",
    "partial of such an object",
    "async method",
    "async static method",
    "async generator",
    "a str",
    "a number",
    "False",
]
CALLBACKS = ["on_assistant_message", "on_command_output", "on_artifact_upload_request", "on_heartbeat"]
TIMES = ["timeout", "idle_timeout", "assistant_callback_timeout", "artifact_upload_callback_timeout"]
TIMES += ["end_session_timeout"]


def values(*each: Any) -> Tuple[Any, ...]:
    return each


#: Option, wrong type of value.
WRONG_TYPES: List[Any] = [
    *((name, value) for name in TIMES for value in values("1", True, False, [1], 1j, object())),
    *(
        (name, value)
        for name in ("source_id", "artifacts_ignore_content", "artifacts_dir")
        for value in values(1, b"x", [])
    ),
    *(("secrets_to_redact", value) for value in values(None, "abc", [1], [None], {"a"}, {"a": "b"}, [b"x"])),
    *(("artifacts_dirs", value) for value in values("/out", [1], 1, {"/out"})),
    *(("logger", value) for value in values("runtimeuse", 1, print)),
]
WRONG_QUERY_TYPES: List[Any] = [
    *(
        (name, value)
        for name in ("system_prompt", "model", "output_format_json_schema_str")
        for value in values(1, b"x", {})
    ),
    *(("agent_env", value) for value in values("A=b", [("A", "b")], {"A": 1}, {1: "b"}, {"A": None})),
    *(
        (name, value)
        for name in ("pre_agent_invocation_commands", "post_agent_invocation_commands")
        for value in values("ls", ["ls"], [1], CommandInterface("ls"))
    ),
    *(("pre_agent_downloadables", value) for value in values("https://x", ["https://x"], [CommandInterface("ls")])),
]
WRONG_VALUES: List[Any] = [
    *((name, value) for name in TIMES for value in values(0, 0.0, -1, -0.5, float("nan"), float("-inf"))),
    ("secrets_to_redact", [""]),
    ("artifacts_dir", ""),
    ("artifacts_dir", "  "),
    ("artifacts_dirs", [""]),
]
WRONG_QUERY_VALUES: List[Any] = [
    ("model", ""),
    ("model", " "),
    *(("agent_env", value) for value in values({"": "x"}, {"A=B": "x"}, {"A\0": "x"}, {"A": "x\0"})),
    *(
        ("output_format_json_schema_str", value)
        for value in values(
            "",
            "{",
            "[]",
            "{}",
            '{"type": "json_schema"}',
            '{"type": "json", "schema": {}}',
            "null",
            "[" * 10**5,
        )
    ),
    ("output_format_json_schema_str", '{"type": "json_schema", "schema": []}'),
    ("pre_agent_invocation_commands", [CommandInterface("")]),
    ("post_agent_invocation_commands", [CommandInterface("ls", cwd="")]),
    ("pre_agent_invocation_commands", [CommandInterface("ls", env={"": "x"})]),
    ("pre_agent_downloadables", [RuntimeEnvironmentDownloadableInterface("", "/data")]),
    ("pre_agent_downloadables", [RuntimeEnvironmentDownloadableInterface("https://x", "")]),
]


def _names(cases: List[Any]) -> List[str]:
    return sorted({name for name, _ in cases})


def _identify(value: Any) -> str:
    return repr(value)[:40]


def check_raises(client: RuntimeUseClient, error: type, name: str, value: Any, *, commands: bool) -> None:
    """Tries the option as a keyword of every call, and in an options object."""
    calls: List[Callable[[], Any]] = [
        lambda: client.query("p", **{name: value}),
        lambda: client.stream("p", **{name: value}),
        lambda: QueryOptions(**{name: value}),
    ]
    if commands:
        calls += [
            lambda: client.execute_commands(["ls"], **{name: value}),
            lambda: client.stream_commands(["ls"], **{name: value}),
            lambda: ExecuteCommandsOptions(**{name: value}),
        ]
    for call in calls:
        with pytest.raises(error) as caught:
            call()
        assert name in str(caught.value)
        assert type(caught.value) is error, value


@pytest.mark.parametrize("name", _names(WRONG_TYPES))
def test_wrong_types(client: RuntimeUseClient, name: str) -> None:
    for value in [value for each, value in WRONG_TYPES if each == name]:
        check_raises(client, TypeError, name, value, commands=True)


@pytest.mark.parametrize("name", _names(WRONG_QUERY_TYPES))
def test_wrong_types_of_a_query(client: RuntimeUseClient, name: str) -> None:
    for value in [value for each, value in WRONG_QUERY_TYPES if each == name]:
        check_raises(client, TypeError, name, value, commands=False)


@pytest.mark.parametrize("name", _names(WRONG_VALUES))
def test_values_that_cannot_be(client: RuntimeUseClient, name: str) -> None:
    for value in [value for each, value in WRONG_VALUES if each == name]:
        check_raises(client, ValueError, name, value, commands=True)


@pytest.mark.parametrize("name", _names(WRONG_QUERY_VALUES))
def test_values_that_cannot_be_of_a_query(client: RuntimeUseClient, name: str) -> None:
    for value in [value for each, value in WRONG_QUERY_VALUES if each == name]:
        check_raises(client, ValueError, name, value, commands=False)


@pytest.mark.parametrize("kind", CALLBACK_KINDS)
def test_callbacks_that_cannot_be_called(client: RuntimeUseClient, kind: str) -> None:
    for name in CALLBACKS:
        check_raises(client, TypeError, name, make_callback(kind), commands=True)


@pytest.mark.parametrize("name", TIMES)
def test_times_that_no_clock_can_hold(name: str) -> None:
    # More than a float holds: no OverflowError, neither now nor when the call is made.
    keywords: Dict[str, Any] = {name: 10**400}
    try:
        options = QueryOptions(**keywords)
    except ValueError as error:
        refused = str(error)
    else:
        float(getattr(options, name))
        refused = name
    assert name in refused


@pytest.mark.parametrize("value", ["1.5", 1, 0, None, "yes"])
def test_check_is_a_bool(client: RuntimeUseClient, value: Any) -> None:
    with pytest.raises(TypeError, match="check"):
        client.execute_commands(["ls"], check=value)


@pytest.mark.parametrize("prompt", ["", " \n", None, 1, b"x", ["x"]])
def test_prompts(client: RuntimeUseClient, prompt: Any) -> None:
    for call in (client.query, client.stream, client.session().query, client.session().stream):
        with pytest.raises(ValueError if isinstance(prompt, str) else TypeError, match="prompt"):
            call(prompt)


@pytest.mark.parametrize(
    ("commands", "error", "named"),
    [
        ([], ValueError, "commands"),
        ((), ValueError, "commands"),
        ("ls", TypeError, "commands"),
        (CommandInterface("ls"), TypeError, "commands"),
        (None, TypeError, "commands"),
        ({"ls"}, TypeError, "commands"),
        ({"ls": 1}, TypeError, "commands"),
        (["ls", ""], ValueError, r"commands\[1\]"),
        (["ls", "  "], ValueError, r"commands\[1\]"),
        (["ls", 1], TypeError, r"commands\[1\]"),
        ([b"ls"], TypeError, r"commands\[0\]"),
        ([["ls"]], TypeError, r"commands\[0\]"),
        ([CommandInterface("ls", cwd="")], ValueError, r"commands\[0\].cwd"),
        ([CommandInterface("ls", env={"A": 1})], TypeError, r"commands\[0\].env"),  # type: ignore[dict-item]
        ([CommandInterface("ls", env={"": "1"})], ValueError, r"commands\[0\].env"),
        ([CommandInterface(1)], TypeError, r"commands\[0\].command"),  # type: ignore[arg-type]
    ],
    ids=_identify,
)
def test_commands(client: RuntimeUseClient, commands: Any, error: type, named: str) -> None:
    for call in (client.execute_commands, client.stream_commands, client.session().execute_commands):
        with pytest.raises(error, match=named):
            call(commands)


def test_unknown_keywords(client: Any) -> None:
    calls: List[Callable[[], Any]] = [
        lambda: client.query("p", tiemout=3),
        lambda: client.execute_commands(["ls"], tiemout=3),
        lambda: client.session().query("p", tiemout=3),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="tiemout"):
            call()
    # Options of the other kind of call.
    with pytest.raises(TypeError, match="model"):
        client.execute_commands(["ls"], model="m")
    with pytest.raises(TypeError, match="check"):
        client.query("p", check=False)


@pytest.mark.parametrize("options", [{}, {"timeout": 1}, 1, "x", ExecuteCommandsOptions()])
def test_options_of_the_wrong_type(client: RuntimeUseClient, options: Any) -> None:
    with pytest.raises(TypeError, match="options"):
        client.query("p", options)


def test_options_of_a_query_for_commands(client: RuntimeUseClient) -> None:
    with pytest.raises(TypeError, match="options"):
        client.execute_commands(["ls"], QueryOptions())  # type: ignore[arg-type]


def _upload(request: Any) -> Any:
    raise AssertionError("not called here")


@pytest.mark.parametrize(
    "keywords",
    [
        {"artifacts_dirs": ["/out"]},
        {"artifacts_dir": "/out"},
        {"artifacts_dirs": ["/out"], "artifacts_dir": "/out"},
        {"on_artifact_upload_request": _upload},
        {"on_artifact_upload_request": _upload, "artifacts_dirs": []},
        {"on_artifact_upload_request": _upload, "artifacts_dirs": None, "artifacts_dir": None},
    ],
)
def test_artifacts_and_their_callback_come_together(client: RuntimeUseClient, keywords: Dict[str, Any]) -> None:
    for call in (lambda: client.query("p", **keywords), lambda: client.execute_commands(["ls"], **keywords)):
        with pytest.raises(ValueError, match=r"artifacts_dirs.*on_artifact_upload_request"):
            call()


def test_changed_options_are_checked_again(client: RuntimeUseClient) -> None:
    options = QueryOptions()
    options.timeout = -1
    with pytest.raises(ValueError, match="timeout"):
        client.query("p", options)


def test_no_model(client: RuntimeUseClient) -> None:
    with pytest.raises(ValueError, match="model"):
        RuntimeUseClient(transport=NeverOpened()).query("p")


def test_requests_that_are_too_large(client: RuntimeUseClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert requests_module.MAX_REQUEST_SIZE == 100 * 2**20
    monkeypatch.setattr(requests_module, "MAX_REQUEST_SIZE", 1000)
    for call in (lambda: client.query("é" * 500), lambda: client.execute_commands(["x" * 1000])):
        with pytest.raises(ValueError, match="1000"):
            call()


def test_secrets_are_not_repeated(client: Any) -> None:
    bad: List[Callable[[], Any]] = [
        lambda: client.query("p", agent_env={"TOKEN": SECRET + "\0"}),
        lambda: client.query("p", secrets_to_redact=SECRET),
        lambda: client.query("p", agent_env=f"TOKEN={SECRET}"),
        lambda: client.query("p", agent_env={"TOKEN": [SECRET]}),
        lambda: client.query("p", pre_agent_downloadables=[f"https://x.test?{SECRET}"]),
        lambda: client.execute_commands([CommandInterface("ls", env={"A": SECRET + "\0"})]),
        lambda: WebSocketTransport("ws://h", headers={"Authorization": f"Bearer {SECRET}\r\n"}),
        lambda: WebSocketTransport("ws://h", headers={"Authorization": [SECRET]}),  # type: ignore[dict-item]
    ]
    for call in bad:
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"ws://user:{SECRET}/x@host.test:80",  # a password with a slash that is not escaped
        f"ws://user:{SECRET}",
        f"ws://user:{SECRET}@[::1",
        f"ws://user:{SECRET}@host\u2100.test",
        f"ws://user:{SECRET}@host:port",
        f"http://user:{SECRET}@host?{SECRET}",
        f"ws://host.test/?token={SECRET} ",
        f"//user:{SECRET}@host",
    ],
)
@pytest.mark.parametrize("argument", ["ws_url", "proxy"])
def test_bad_urls_are_not_repeated(url: str, argument: str) -> None:
    if argument == "proxy" and url.startswith("http://"):
        return
    keywords: Dict[str, Any] = {"ws_url": url}
    if argument == "proxy":
        keywords = {"ws_url": "ws://host", "proxy": url.replace("ws://", "http://") if "?" not in url else url}
    with pytest.raises(ValueError, match=argument) as caught:
        WebSocketTransport(**keywords)
    assert SECRET not in str(caught.value)


# The client's own arguments.


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://host", ValueError),
        ("https://host", ValueError),
        ("host:8080", ValueError),
        ("", ValueError),
        ("ws://", ValueError),
        ("ws://:80", ValueError),
        ("ws:///path", ValueError),
        ("ws://ho st", ValueError),
        ("ws://host\r\nX: y", ValueError),
        ("ws://host:port", ValueError),
        ("ws://host:99999", ValueError),
        (1, TypeError),
        (b"ws://host", TypeError),
    ],
)
def test_urls(url: Any, error: type) -> None:
    with pytest.raises(error, match="ws_url"):
        RuntimeUseClient(url)


@pytest.mark.parametrize("url", ["ws://localhost:8080", "wss://u:p@[::1]:1/path?q=1", "ws://h", "WS://h"])
def test_good_urls(url: str) -> None:
    RuntimeUseClient(url)


def test_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        if value is None:
            monkeypatch.delenv(URL_VARIABLE, raising=False)
        else:
            monkeypatch.setenv(URL_VARIABLE, value)
        with pytest.raises(ValueError, match=r"ws_url.*RUNTIMEUSE_WS_URL"):
            RuntimeUseClient()
    monkeypatch.setenv(URL_VARIABLE, "ws://from.environment")
    assert "from.environment" in repr(RuntimeUseClient())
    monkeypatch.setenv(URL_VARIABLE, "http://from.environment")
    with pytest.raises(ValueError, match=URL_VARIABLE):
        RuntimeUseClient()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("connect_timeout", 0, ValueError),
        ("connect_timeout", "1", TypeError),
        ("connect_timeout", True, TypeError),
        ("ping_interval", -1, ValueError),
        ("ping_timeout", float("nan"), ValueError),
        ("ping_timeout", None, TypeError),
        ("max_message_size", 0, ValueError),
        ("max_message_size", 1.5, TypeError),
        ("max_buffered", -1, ValueError),
        ("max_buffered", None, TypeError),
        ("headers", ["A: b"], TypeError),
        ("headers", {"A": 1}, TypeError),
        ("headers", {1: "b"}, TypeError),
        ("headers", {"A\r\nB": "c"}, ValueError),
        ("headers", {"A": "b\nc"}, ValueError),
        ("headers", {"": "b"}, ValueError),
        ("ssl_context", True, TypeError),
        ("proxy", "socks5://host", ValueError),
        ("proxy", "https://host", ValueError),
        ("proxy", "host:8080", ValueError),
        ("proxy", 1, TypeError),
        ("model", "", ValueError),
        ("model", 1, TypeError),
        ("system_prompt", 1, TypeError),
    ],
)
def test_settings(name: str, value: Any, error: type) -> None:
    with pytest.raises(error, match=name):
        RuntimeUseClient("ws://host", **{name: value})


def test_unknown_settings() -> None:
    make: Any = RuntimeUseClient
    with pytest.raises(TypeError, match="conect_timeout"):
        make("ws://host", conect_timeout=3)
    # A custom transport has no settings of a WebSocket, but a slip of the pen is one there, too.
    with pytest.raises(TypeError, match="modell"):
        make(transport=NeverOpened(), modell="m")


@pytest.mark.parametrize(
    ("typed", "real"),
    [
        (QueryKeywords, QueryOptions),
        (CommandsKeywords, ExecuteCommandsOptions),
        (WebSocketKeywords, WebSocketTransport.__init__),
    ],
    ids=_identify,
)
def test_the_keywords_known_to_type_checkers_are_those_there_are(typed: Any, real: Any) -> None:
    hints = typing.get_type_hints(real)
    for name in ("ws_url", "return"):
        hints.pop(name, None)
    assert typing.get_type_hints(typed) == hints
    for call in (RuntimeUseClient.query, RuntimeUseSession.execute_commands, RuntimeUseClient.__init__):
        assert typing.get_type_hints(call)


@pytest.mark.parametrize("value", [0, -1, float("nan"), "1", True])
def test_times_of_the_client(client: RuntimeUseClient, value: Any) -> None:
    error = TypeError if isinstance(value, (str, bool)) else ValueError
    with pytest.raises(error, match="timeout"):
        client.wait_until_ready(value)
    with pytest.raises(error, match="end_session_timeout"):
        client.session(end_session_timeout=value)


@pytest.mark.parametrize("transport", [1, "ws://host", object()])
def test_transports(transport: Any) -> None:
    with pytest.raises(TypeError, match="transport"):
        RuntimeUseClient(transport=transport)


def test_what_is_allowed() -> None:
    class Callable_:
        def __call__(self, message: Any) -> None: ...

    def plain(message: Any, more: Optional[int] = None) -> None: ...

    QueryOptions(
        timeout=1,
        idle_timeout=0.001,
        end_session_timeout=None,
        assistant_callback_timeout=float("inf"),
        secrets_to_redact=[],
        on_assistant_message=Callable_(),
        on_command_output=functools.partial(plain, more=1),
        on_heartbeat=print,
        logger=logging.getLogger("x"),
        system_prompt="",
    )
    # An adapter does whatever a logger does.
    ExecuteCommandsOptions(logger=logging.LoggerAdapter(logging.getLogger("x"), {}))  # type: ignore[arg-type]
