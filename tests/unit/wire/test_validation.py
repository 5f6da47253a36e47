"""Invalid options: each raises a TypeError or ValueError that names it, before anything is sent."""

from __future__ import annotations

import functools
import logging
import threading
from typing import Any, AsyncIterator, Callable, Dict, List, Optional, Tuple

import pytest

from runtimeuse_sync import (
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RuntimeEnvironmentDownloadableInterface,
    RuntimeUseClient,
)


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

CALLBACKS = ["on_assistant_message", "on_command_output", "on_artifact_upload_request", "on_heartbeat", "cancel_when"]

TIMES = ["timeout", "idle_timeout", "assistant_callback_timeout", "artifact_upload_callback_timeout"]
TIMES += ["end_session_timeout"]


def values(*each: Any) -> Tuple[Any, ...]:
    return each


#: Options, each with a value of a wrong type.
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
    *(("cancel_poll_interval", value) for value in values(None, "1", True, [1], 1j, object())),
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
    *(("cancel_poll_interval", value) for value in values(0, -1, float("nan"), float("inf"), 10**400)),
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
            "{'type': 'object'}",
            '{"type": "object"} x',
            '{"maximum": NaN}',
            "[-Infinity]",
            "[" * 10**5,
        )
    ),
    ("pre_agent_invocation_commands", [CommandInterface("")]),
    ("post_agent_invocation_commands", [CommandInterface("ls", cwd="")]),
    ("pre_agent_invocation_commands", [CommandInterface("ls", env={"": "x"})]),
    ("pre_agent_downloadables", [RuntimeEnvironmentDownloadableInterface("", "/data")]),
    ("pre_agent_downloadables", [RuntimeEnvironmentDownloadableInterface("https://x", "")]),
]


def _names(cases: List[Any]) -> List[str]:
    return sorted({name for name, _ in cases})


def check_raises(client: RuntimeUseClient, error: type, name: str, value: Any, *, commands: bool) -> None:
    """Passes the option as a keyword to every call, and to an options object."""
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
def test_invalid_values(client: RuntimeUseClient, name: str) -> None:
    for value in [value for each, value in WRONG_VALUES if each == name]:
        check_raises(client, ValueError, name, value, commands=True)


@pytest.mark.parametrize("name", _names(WRONG_QUERY_VALUES))
def test_invalid_values_of_a_query(client: RuntimeUseClient, name: str) -> None:
    for value in [value for each, value in WRONG_QUERY_VALUES if each == name]:
        check_raises(client, ValueError, name, value, commands=False)


@pytest.mark.parametrize("kind", CALLBACK_KINDS)
def test_invalid_callbacks(client: RuntimeUseClient, kind: str) -> None:
    for name in CALLBACKS:
        check_raises(client, TypeError, name, make_callback(kind), commands=True)


@pytest.mark.parametrize("name", TIMES)
def test_times_beyond_the_range_of_a_float(name: str) -> None:
    # No OverflowError, neither now nor in the call.
    keywords: Dict[str, Any] = {name: 10**400}
    try:
        options = QueryOptions(**keywords)
    except ValueError as error:
        refused = str(error)
    else:
        float(getattr(options, name))
        refused = name
    assert name in refused


def test_valid_options() -> None:
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
        cancel_when=threading.Event().is_set,
        cancel_poll_interval=1,
    )
    # An adapter has all methods of a logger.
    ExecuteCommandsOptions(logger=logging.LoggerAdapter(logging.getLogger("x"), {}))


@pytest.mark.parametrize(
    "schema",
    [
        '{"type": "object"}',
        "{}",
        "[]",
        "null",
        '"object"',
        ' {"type": "json_schema", "schema": []}\n',
        '{"type": "integer", "maximum": ' + "9" * 10_000 + "}",
    ],
)
def test_any_json_is_a_schema(schema: str) -> None:
    assert QueryOptions(output_format_json_schema_str=schema).output_format_json_schema_str == schema


@pytest.mark.parametrize("method", ["debug", "info", "warning"])
def test_a_logger_needs_all_three_methods(method: str) -> None:
    methods = {name: print for name in ("debug", "info", "warning") if name != method}
    with pytest.raises(TypeError, match="its methods debug, info, warning; Incomplete does not"):
        QueryOptions(logger=type("Incomplete", (), methods)())
