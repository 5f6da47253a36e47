"""The `repr` of dataclasses that carry secrets."""

from __future__ import annotations

from typing import Any, Dict, List

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync import (
    ArtifactUploadResponseMessageInterface,
    ArtifactUploadResult,
    CommandExecutionMessage,
    CommandInterface,
    ExecuteCommandsOptions,
    InvocationMessage,
    QueryOptions,
    RuntimeEnvironmentDownloadableInterface,
)
from runtimeuse_sync._wire.redaction import MASK

SECRET = "hunter2-hunter2"
SIGNED = f"https://user:{SECRET}@store.test:8443/a/b.zip?X-Signature={SECRET}&x=1#part"


def _holders() -> List[Any]:
    command = CommandInterface(f"echo {SECRET}", env={"TOKEN": SECRET})
    download = RuntimeEnvironmentDownloadableInterface(SIGNED, "/data")
    return [
        command,
        download,
        QueryOptions(agent_env={"TOKEN": SECRET}, system_prompt=f"use {SECRET}"),
        QueryOptions(secrets_to_redact=[SECRET], source_id=f"x{SECRET}"),
        QueryOptions(pre_agent_invocation_commands=[command], system_prompt=SECRET),
        QueryOptions(post_agent_invocation_commands=[command], artifacts_ignore_content=SECRET),
        QueryOptions(pre_agent_downloadables=[download]),
        ExecuteCommandsOptions(secrets_to_redact=[SECRET], source_id=SECRET),
        ExecuteCommandsOptions(pre_execution_downloadables=[download]),
        InvocationMessage("invocation_message", "s", f"p {SECRET}", "m", secrets_to_redact=[SECRET]),
        InvocationMessage("invocation_message", "s", "p", "m", agent_env={"TOKEN": SECRET}),
        CommandExecutionMessage("command_execution_message", [command], source_id=SECRET),
        ArtifactUploadResult(SIGNED, "text/plain"),
        ArtifactUploadResponseMessageInterface("artifact_upload_response_message", "a", "/a", SIGNED, "text/plain"),
    ]


@pytest.mark.parametrize("holder", _holders(), ids=lambda each: type(each).__name__)
def test_reprs_show_no_secret(holder: Any) -> None:
    for shown in (repr(holder), str(holder), f"{[holder]}"):
        assert SECRET not in shown
        assert shown.strip("[]").startswith(type(holder).__name__ + "(")


@pytest.mark.parametrize("holder", _holders(), ids=lambda each: type(each).__name__)
def test_secret_values_contain_the_secret(holder: Any) -> None:
    assert any(SECRET in secret for secret in holder.secret_values())


def test_reprs_show_what_is_set() -> None:
    assert repr(CommandInterface("ls", cwd="/app")) == "CommandInterface(command='ls', cwd='/app')"
    assert repr(CommandInterface("ls", env={"A": "b"})) == f"CommandInterface(command='ls', env={{'A': '{MASK}'}})"
    shown = "QueryOptions(model='m', timeout=5, end_session_timeout=60.0, cancel_poll_interval=0.5)"
    assert repr(QueryOptions(model="m", timeout=5)) == shown


# Backslashes, quotes and line breaks (as in a private key) look different in a repr.
_AWKWARD = st.text(st.sampled_from("abc'\"\\\n\r\t\0é€\u2028"), min_size=6, max_size=12).filter(
    lambda each: each.strip()
)


@hypothesis.given(_AWKWARD)
@hypothesis.example("-----BEGIN KEY-----\nMIIEvQ\n-----END KEY-----")
def test_reprs_show_no_escaped_secret(secret: str) -> None:
    disguised = repr(secret)[1:-1]
    for holder in (
        CommandInterface(f"printf '{secret}'", env={"KEY": secret.replace("\0", "0")})
        if "\0" not in secret
        else CommandInterface("x"),
        QueryOptions(system_prompt=f"use {secret} well", secrets_to_redact=[secret]),
    ):
        shown = repr(holder)
        assert secret not in shown
        assert disguised not in shown


@pytest.mark.parametrize("kind", [list, tuple])
def test_secrets_are_found_in_lists_and_tuples_alike(kind: Any) -> None:
    command = CommandInterface("make", env={"TOKEN": SECRET})
    download = RuntimeEnvironmentDownloadableInterface(SIGNED, "/data")
    fields: List[Dict[str, Any]] = [
        {"secrets_to_redact": kind([SECRET])},
        {"pre_agent_invocation_commands": kind([command])},
        {"post_agent_invocation_commands": kind([command])},
        {"pre_agent_downloadables": kind([download])},
    ]
    for each in fields:
        options = QueryOptions(**each)
        assert any(SECRET in secret for secret in options.secret_values()), each
        assert SECRET not in repr(options)
