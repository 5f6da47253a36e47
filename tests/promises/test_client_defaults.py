"""Every option can be a client's default; a call's own wins, environments are merged, secrets are added."""

from __future__ import annotations

import inspect
import sys
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List
from unittest import mock

import pytest

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    CancelledException,
    CommandInterface,
    CommandOutputMessageInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    RunFuture,
    RuntimeEnvironmentDownloadableInterface,
    RunTimeoutError,
    RuntimeUseClient,
)
from runtimeuse_sync._wire.request import ALL_OPTIONS, Defaults

from ..support.builders import CONFIRM, Serve, echo, output, ran
from ..support.servers import PATIENCE, Peer
from ..support.threads import InThread, when


def upload(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
    raise AssertionError("no file is announced")


def silent(peer: Peer) -> None:
    """Takes every request and answers none but the end of the session."""
    peer.accept()
    for message in peer.requests():
        if message["message_type"] == "end_session_message":
            peer.send(CONFIRM)


#: A value for each option that differs from its default, and one that a call sets itself.
VALUES: Dict[str, Any] = {
    "system_prompt": ("a", "b"),
    "model": ("a", "b"),
    "output_format_json_schema_str": ('{"a": 1}', '{"b": 1}'),
    "source_id": ("a", "b"),
    "artifacts_ignore_content": ("a", "b"),
    "pre_agent_invocation_commands": ([CommandInterface("a")], []),
    "post_agent_invocation_commands": ([CommandInterface("a")], []),
    "pre_agent_downloadables": ([RuntimeEnvironmentDownloadableInterface("https://a.test", "a")], []),
    "pre_execution_downloadables": ([RuntimeEnvironmentDownloadableInterface("https://a.test", "a")], []),
    "on_assistant_message": (print, repr),
    "on_command_output": (print, repr),
    "on_heartbeat": (print, repr),
    "timeout": (1.0, 2.0),
    "idle_timeout": (1.0, 2.0),
    "assistant_callback_timeout": (1.0, 2.0),
    "artifact_upload_callback_timeout": (1.0, 2.0),
    "logger": (mock.Mock(), mock.Mock()),
    "end_session_timeout": (1.0, 2.0),
    "cancel_when": (bool, dict),
    "cancel_poll_interval": (1.0, 2.0),
    "check": (False, True),
}

#: Options that have rules of their own, which other tests check.
OWN_RULES = {"agent_env", "secrets_to_redact", "artifacts_dirs", "artifacts_dir", "on_artifact_upload_request"}


def test_the_table_has_every_option() -> None:
    assert {*VALUES, *OWN_RULES} == set(ALL_OPTIONS)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("kind", [QueryOptions, ExecuteCommandsOptions])
def test_every_option(kind: Any, name: str) -> None:
    default, own = VALUES[name]
    client = RuntimeUseClient("ws://a.test", **{name: default})
    if name not in kind.__dataclass_fields__:
        # Only the other kind of call has this option; that is no error.
        assert client._defaults.merged(kind, None, {}, "x") == kind()
        return

    def merged(options: Any, **keywords: Any) -> Any:
        return getattr(client._defaults.merged(kind, options, keywords, "x"), name)

    assert merged(None) == default
    assert merged(kind()) == default
    assert merged(None, **{name: own}) == own
    assert merged(kind(**{name: default}), **{name: own}) == own
    # An options object that has the option's own default says nothing about it.
    assert merged(kind(**{name: own})) == (default if own == ALL_OPTIONS[name] else own)
    if name not in ("model", "system_prompt", "check", "cancel_poll_interval"):
        assert merged(None, **{name: None}) is None


@pytest.mark.parametrize("name", ["system_prompt", "model"])
def test_none_sets_no_model_and_no_system_prompt(name: str) -> None:
    client = RuntimeUseClient("ws://a.test", **{name: "default"})  # type: ignore[arg-type]
    assert getattr(client._defaults.merged(QueryOptions, None, {name: None}, "x"), name) == "default"


def test_environments_are_merged(serve: Serve) -> None:
    server = serve(echo)
    env = {"A": "default", "B": "default"}
    client = RuntimeUseClient(server.url, model="m", agent_env=env)
    env["A"] = "changed after the client was made"
    client.query("1", agent_env={"B": "own", "C": "own"})
    client.query("2", QueryOptions(agent_env={"B": "object"}))
    client.query("3", agent_env=None)
    client.query("4")
    assert [said.get("agent_env") for said in server.said("invocation_message")] == [
        {"A": "default", "B": "own", "C": "own"},
        {"A": "default", "B": "object"},
        None,
        {"A": "default", "B": "default"},
    ]


def test_secrets_are_added(serve: Serve) -> None:
    server = serve(echo)
    client = RuntimeUseClient(server.url, model="m", secrets_to_redact=["default"])
    client.query("1", secrets_to_redact=["own"])
    client.execute_commands(["ls"], ExecuteCommandsOptions(secrets_to_redact=["object"]))
    client.query("3", secrets_to_redact=[])
    sent = [said["secrets_to_redact"] for said in server.said("invocation_message")]
    assert sent == [["default", "own"], ["default"]]
    assert server.said("command_execution_message")[0]["secrets_to_redact"] == ["default", "object"]


def test_the_clients_upload_callback_serves_calls_with_artifacts() -> None:
    defaults = RuntimeUseClient("ws://a.test", on_artifact_upload_request=upload)._defaults
    assert defaults.merged(QueryOptions, None, {}, "x").on_artifact_upload_request is None
    merged = defaults.merged(QueryOptions, None, {"artifacts_dir": Path("out")}, "x")
    assert (merged.artifacts_dir, merged.on_artifact_upload_request) == ("out", upload)
    with pytest.raises(ValueError, match="must be specified together"):
        # Its own callback is no default: without directories it is a mistake.
        RuntimeUseClient("ws://a.test", model="m").query("p", on_artifact_upload_request=upload)


def test_directories_as_a_default() -> None:
    both = RuntimeUseClient("ws://a.test", artifacts_dirs=[Path("a"), "b"], on_artifact_upload_request=upload)
    merged = both._defaults.merged(QueryOptions, None, {}, "x")
    assert (merged.artifacts_dirs, merged.on_artifact_upload_request) == (["a", "b"], upload)


@pytest.mark.parametrize("name", sorted(ALL_OPTIONS))
def test_defaults_are_checked(name: str) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be"):
        RuntimeUseClient("ws://a.test", **{name: object()})  # type: ignore[arg-type]


def test_a_default_callback_is_called(serve: Serve) -> None:
    said: List[CommandOutputMessageInterface] = []

    def script(peer: Peer) -> None:
        peer.accept()
        for _ in peer.requests():
            peer.send(output("hi\n"), ran("ls"))

    client = RuntimeUseClient(serve(script).url, on_command_output=said.append)
    client.execute_commands(["ls"])
    assert [message.text for message in said] == ["hi\n"]


# What may be passed.


def test_times_may_be_timedeltas() -> None:
    second = timedelta(seconds=1)
    options = QueryOptions(timeout=second, idle_timeout=second / 2, end_session_timeout=timedelta(minutes=2))
    assert (options.timeout, options.idle_timeout, options.end_session_timeout) == (1.0, 0.5, 120.0)
    options.timeout = timedelta(seconds=3)
    assert Defaults({}).merged(QueryOptions, options, {}, "x").timeout == 3.0
    client = RuntimeUseClient("ws://a.test", connect_timeout=second, ping_timeout=second, timeout=second)
    settings = client._websocket._settings  # type: ignore[union-attr]
    assert (settings.connect_timeout, settings.ping_timeout) == (1.0, 1.0)
    assert client._defaults.merged(QueryOptions, None, {}, "x").timeout == 1.0
    with pytest.raises(ValueError, match=r"^timeout must be more than 0 seconds"):
        QueryOptions(timeout=timedelta(0))


def test_a_timedelta_is_a_deadline(serve: Serve) -> None:
    client = RuntimeUseClient(serve(silent).url, model="m")
    with pytest.raises(RunTimeoutError, match=r"within 0\.05 s"):
        client.query("p", timeout=timedelta(milliseconds=50))
    with pytest.raises(RunTimeoutError):
        RuntimeUseClient("ws://127.0.0.1:1").wait_until_ready(timedelta(milliseconds=50))


def test_paths_may_be_path_objects(serve: Serve) -> None:
    server = serve(echo)
    download = RuntimeEnvironmentDownloadableInterface("https://a.test/f", PurePosixPath("data"))
    command = CommandInterface("ls", cwd=Path("a/b"))
    assert (command.cwd, download.working_dir) == ("a/b", "data")
    RuntimeUseClient(server.url).execute_commands([command], pre_execution_downloadables=[download])
    (said,) = server.said("command_execution_message")
    assert said["commands"] == [{"command": "ls", "cwd": "a/b"}]
    assert said["pre_execution_downloadables"] == [{"download_url": "https://a.test/f", "working_dir": "data"}]


def test_one_command_needs_no_list(serve: Serve) -> None:
    client = RuntimeUseClient(serve(echo).url)
    assert [item.command for item in client.execute_commands("make test").results] == ["make test"]
    assert [item.command for item in client.execute_commands(CommandInterface("ls")).results] == ["ls"]


# What signatures and errors say.


@pytest.mark.parametrize("method", ["query", "stream", "execute_commands", "stream_commands", "run"])
def test_signatures_list_the_options(method: str) -> None:
    client = RuntimeUseClient("ws://a.test")
    kind = QueryOptions if method in ("query", "stream") else ExecuteCommandsOptions
    for owner in (client, client.session()):
        shown = inspect.signature(getattr(owner, method)).parameters
        for field in kind.__dataclass_fields__:
            assert shown[field].kind is inspect.Parameter.KEYWORD_ONLY
            assert shown[field].default == ALL_OPTIONS[field]
        assert all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in shown.values())


def test_the_clients_signature() -> None:
    shown = inspect.signature(RuntimeUseClient).parameters
    assert {"ws_url", "transport", "keep_output", "headers", "ping_timeout", *ALL_OPTIONS} <= set(shown)
    assert shown["connect_timeout"].default == 10.0
    assert "self" not in shown


def test_a_subclass_has_a_signature_of_its_own() -> None:
    class Mine(RuntimeUseClient):
        def __init__(self, name: str) -> None:
            super().__init__(f"ws://{name}.test")

    assert list(inspect.signature(Mine).parameters) == ["name"]


def test_an_autospec_refuses_what_the_client_refuses() -> None:
    client = mock.create_autospec(RuntimeUseClient("ws://a.test"))
    client.query("p", timeout=3)
    with pytest.raises(TypeError):
        client.query("p", timout=3)
    with pytest.raises(TypeError):
        mock.create_autospec(RuntimeUseClient)("ws://a.test", timout=3)


@pytest.mark.parametrize(
    "method", ["query", "stream", "submit", "execute_commands", "stream_commands", "submit_commands", "run"]
)
def test_a_misspelled_option(method: str) -> None:
    call = getattr(RuntimeUseClient("ws://a.test", model="m"), method)
    with pytest.raises(TypeError, match=rf"^{method}\(\) got an unknown option 'timout'; did you mean timeout\?$"):
        call("p", timout=3)
    with pytest.raises(TypeError, match=r"unknown option 'zzz'; valid options are .*\btimeout\b"):
        call("p", zzz=3)


def test_a_misspelled_argument_of_the_client() -> None:
    with pytest.raises(TypeError, match=r"unknown argument 'header'; did you mean headers\?$"):
        RuntimeUseClient("ws://a.test", header={})  # type: ignore[call-arg]


# The client as a context manager.


def test_leaving_the_context_aborts_what_is_in_flight(serve: Serve) -> None:
    server = serve(silent)
    client = RuntimeUseClient(server.url, model="m")
    with client.session() as session:
        with client as entered:
            assert entered is client
            calls = [InThread(client.query, "p"), InThread(session.query, "p")]
            server.wait_for("invocation_message", 2)
        assert [type(call.error()) for call in calls] == [CancelledException, CancelledException]


def test_leaving_the_context_aborts_what_waits_for_its_turn(serve: Serve) -> None:
    server = serve(silent)
    client = RuntimeUseClient(server.url, model="m")
    with client.session() as session:
        with client:
            running = session.submit("p")
            server.wait_for("invocation_message")
            waiting: List[RunFuture[Any]] = [session.submit("p"), session.submit_commands(["ls"])]
            reading = InThread(session.files.read, "/x")
            when(lambda: len(session._operations) == 1)
        errors = [running.exception(PATIENCE), *(future.exception(PATIENCE) for future in waiting)]
        assert [type(error) for error in errors] == [CancelledException] * 3
        assert isinstance(reading.error(), CancelledException)
    assert not [each for each in server.messages if each.get("commands")]


def test_sessions_may_be_made_while_the_context_ends(serve: Serve) -> None:
    """At any step, as another thread does."""
    client = RuntimeUseClient(serve(echo).url, model="m")
    made = [client.session()]

    def make_one(*_: Any) -> Any:
        if len(made) < 20:
            made.append(client.session())
        return make_one

    before = sys.gettrace()
    sys.settrace(make_one)
    try:
        client.__exit__(None, None, None)
    finally:
        sys.settrace(before)
    assert len(client._sessions) == len(made) > 1
    made.clear()
    assert not client._sessions


def test_a_context_without_calls_changes_nothing(serve: Serve) -> None:
    with RuntimeUseClient(serve(echo).url, model="m") as client:
        assert client.query("in it").text == "in it"
    assert client.query("after it").text == "after it"
