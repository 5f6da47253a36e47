"""Invalid arguments of calls: each raises a TypeError or ValueError that names it, before anything is sent."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from runtimeuse_sync import CommandInterface, ExecuteCommandsOptions, QueryOptions, RuntimeUseClient
from runtimeuse_sync._wire import request as requests_module

from ...support.doubles import NeverOpened


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
        ("", ValueError, "commands"),
        (CommandInterface(" "), ValueError, "commands"),
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
    ids=lambda value: repr(value)[:40],
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
    # Options of the other method.
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
