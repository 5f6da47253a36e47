"""Keeping secrets out of reprs and exception texts (the pure part of P11)."""

from __future__ import annotations

import json
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
from runtimeuse_sync._wire.codec import MalformedMessage, parse
from runtimeuse_sync._wire.redaction import (
    MASK,
    env_secrets,
    header_secrets,
    mask_url,
    scrub,
    scrub_value,
    url_origin,
    url_secrets,
)

SECRET = "hunter2-hunter2"
SIGNED = f"https://user:{SECRET}@store.test:8443/a/b.zip?X-Signature={SECRET}&x=1#part"


def test_scrub() -> None:
    assert scrub("a secret, two secrets", ["secret"]) == f"a {MASK}, two {MASK}s"
    assert scrub("nothing", ["secret", ""]) == "nothing"
    assert scrub("", ["x"]) == ""


@pytest.mark.parametrize("colour", ["\x1b[01;31m\x1b[K", "\x1b[m", "\x1b]8;;\x07"])
def test_a_secret_with_colours_in_it(colour: str) -> None:
    """As `grep --color` prints what it has found; who shows the text takes the colours off."""
    coloured = f"{colour}see {SECRET[:4]}{colour}{SECRET[4:]}"
    assert scrub(coloured, [SECRET]) == f"see {MASK}"
    assert scrub(f"{colour}see {SECRET}", [SECRET]) == f"{colour}see {MASK}"
    assert scrub(f"{colour}see", [SECRET]) == f"{colour}see"


def test_the_longest_secret_is_masked_first() -> None:
    assert scrub("password123", ["password", "password123", "123"]) == MASK


@hypothesis.given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.lists(st.text(st.characters(min_codepoint=97, max_codepoint=101), min_size=1, max_size=4), max_size=3),
)
def test_no_secret_is_left(text: str, secrets: List[str]) -> None:
    masked = scrub(text, secrets)
    for secret in secrets:
        assert secret not in masked.replace(MASK, "\n")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(f"has {SECRET} in it"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", SECRET]), inner, max_size=2),
    max_leaves=8,
)


@hypothesis.given(_JSON)
def test_json_values_are_masked_everywhere(value: Any) -> None:
    before = json.dumps(value)
    masked = scrub_value(value, iter([SECRET]))
    assert SECRET not in json.dumps(masked)
    assert json.dumps(value) == before, "the value itself was changed"
    assert json.dumps(scrub_value(value, [])) == before


@pytest.mark.parametrize("depth", [100, 400, 900, 5000, 50_000])
def test_deeply_nested_values_are_masked(depth: int) -> None:
    # Whatever the codec lets through must not fail here: the call would end by a RecursionError.
    nested = '{"a":' * depth + json.dumps(SECRET) + "}" * depth
    try:
        value = parse('{"message_type": "error_message", "error": "e", "metadata": ' + nested + "}")["metadata"]
    except MalformedMessage:
        assert depth > 400
        return
    masked: Any = None
    try:
        masked = scrub_value(value, [SECRET])
    except RecursionError:
        pass  # Told below: in here its traceback would come with it, whose values are too deep for pytest.
    assert masked is not None, "RecursionError"
    for _ in range(depth):
        masked = masked["a"]
    assert masked == MASK


def test_short_environment_values_are_words() -> None:
    assert env_secrets({"A": "1", "B": "dev", "C": SECRET}, None, {}, {"D": "prod"}) == [SECRET, "prod"]


def test_short_headers_are_words() -> None:
    headers = {"X-Retry": "7", "Authorization": "Bearer abcd", "Cookie": "a=1; sid=secret"}
    assert scrub("HTTP 407 Proxy", header_secrets(headers)) == "HTTP 407 Proxy"
    assert scrub("abcd secret", header_secrets(headers)) == f"{MASK} {MASK}"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        (f"wss://user:{SECRET}@host.test:8080/{SECRET}?token={SECRET}", "wss://host.test:8080"),
        ("ws://localhost", "ws://localhost"),
        (f"ws://[::1]:80/{SECRET}", "ws://[::1]:80"),
        (f"ws://host.test?{SECRET}", "ws://host.test"),
        (f"ws://host.test#{SECRET}", "ws://host.test"),
        (f"ws://user:{SECRET}/x@host:99999", MASK),
    ],
)
def test_only_the_origin_of_a_url_is_shown(url: str, origin: str) -> None:
    shown = url_origin(url)
    assert SECRET not in shown
    assert shown == origin or "99999" in url


@hypothesis.given(st.text(max_size=30))
def test_no_url_makes_it_fail(rest: str) -> None:
    for url in (rest, "ws://" + rest, "https://h/" + rest):
        url_origin(url)
        mask_url(url)
        url_secrets(url)


def test_presigned_urls_are_masked() -> None:
    assert mask_url(SIGNED) == f"https://store.test:8443/a/b.zip?{MASK}"
    assert mask_url("https://store.test/a/b.zip") == "https://store.test/a/b.zip"
    assert SECRET in url_secrets(SIGNED)


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
def test_what_holds_a_secret_knows_it(holder: Any) -> None:
    assert any(SECRET in secret for secret in holder.secret_values())


def test_reprs_show_what_is_set() -> None:
    assert repr(CommandInterface("ls", cwd="/app")) == "CommandInterface(command='ls', cwd='/app')"
    assert repr(CommandInterface("ls", env={"A": "b"})) == f"CommandInterface(command='ls', env={{'A': '{MASK}'}})"
    assert repr(QueryOptions(model="m", timeout=5)) == "QueryOptions(model='m', timeout=5, end_session_timeout=60.0)"


# Backslashes, quotes and line breaks (as in a private key) look different in a repr.
_AWKWARD = st.text(st.sampled_from("abc'\"\\\n\r\t\0é€\u2028"), min_size=6, max_size=12).filter(
    lambda each: each.strip()
)


@hypothesis.given(_AWKWARD)
@hypothesis.example("-----BEGIN KEY-----\nMIIEvQ\n-----END KEY-----")
def test_reprs_show_no_secret_in_disguise_either(secret: str) -> None:
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
