"""The sandbox of a provider: a URL, headers and a way to end it, checked, and shown without secrets."""

from __future__ import annotations

from typing import Any, List

import pytest

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.sandboxes import LocalProcess, RemoteSandbox, Sandbox, local_process

SECRET = "k3y5-0f-th3-pr0v1d3r"


async def coroutine_function() -> None:
    """To be refused: nobody would await it."""


def nothing() -> None:
    """Ends nothing."""


def test_it_is_what_a_client_is_made_of() -> None:
    killed: List[str] = []
    sandbox = RemoteSandbox(f"https://h.test/?key={SECRET}", {"X-Token": SECRET}, kill=lambda: killed.append("now"))
    assert isinstance(sandbox, Sandbox)
    client = RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers)
    assert repr(client) == "RuntimeUseClient('https://h.test')"
    sandbox.kill()
    assert killed == ["now"]
    assert repr(sandbox) == "RemoteSandbox('https://h.test')"


def test_local_ones_are_sandboxes_too() -> None:
    def url_of(sandbox: Sandbox) -> str:
        return sandbox.ws_url

    with pytest.raises(RuntimeError, match="the runtime is not running"):
        url_of(local_process())


def test_the_headers_are_a_copy() -> None:
    headers = {"X-Token": SECRET}
    sandbox = RemoteSandbox("https://h", headers, kill=nothing)
    headers.clear()
    sandbox.headers.clear()
    assert sandbox.headers == {"X-Token": SECRET}
    assert RemoteSandbox("https://h", kill=nothing).headers == {}


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("h",), ValueError, "ws_url must begin with ws://, wss://, http:// or https://"),
        ((1,), TypeError, "ws_url must be a str, not int"),
        (("https://h", ["a"]), TypeError, "headers must be a mapping of str to str, not list"),
        (("https://h", {"a": 1}), TypeError, r"headers\['a'\] must be a str, not int"),
        (("https://h", {"a b": "c"}), ValueError, "headers: 'a…' is not a valid name"),
    ],
)
def test_invalid_arguments(arguments: Any, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=f"^{text}"):
        RemoteSandbox(*arguments, kill=nothing)


@pytest.mark.parametrize(("kill", "text"), [(None, "not NoneType"), (coroutine_function, "is a coroutine function")])
def test_what_cannot_kill(kill: Any, text: str) -> None:
    with pytest.raises(TypeError, match=f"^kill .*{text}"):
        RemoteSandbox("https://h", kill=kill)


@pytest.mark.parametrize(
    ("keywords", "kind", "text"),
    [
        ({"agent": print}, TypeError, "agent must be a name .*LocalRuntime takes it"),
        ({"agent": 1}, TypeError, "agent must be a str, not int"),
        ({"agent": " "}, ValueError, "agent must not be empty"),
        ({"root": 1}, TypeError, r"root must be a path \(str or os.PathLike\), not int"),
        ({"env": {"A": 1}}, TypeError, r"env\['A'\] must be a str"),
        ({"env": {"A=": "1"}}, ValueError, "env: 'A…' is not a valid name"),
        ({"arguments": "--help"}, TypeError, "arguments must be a list of str, not str"),
        ({"arguments": [1]}, TypeError, r"arguments\[0\] must be a str"),
        ({"start_timeout": 0}, ValueError, "start_timeout must be more than 0 seconds"),
        ({"start_timeout": "1"}, TypeError, "start_timeout must be a number of seconds"),
    ],
)
def test_invalid_arguments_of_local_processes(keywords: Any, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=f"^{text}"):
        local_process(**keywords)


def test_a_local_process_that_was_not_started() -> None:
    process = local_process()
    assert type(process) is LocalProcess
    assert repr(process) == "<LocalProcess not running>"
    process.kill()
    assert SECRET not in repr(local_process(env={"KEY": SECRET}))
