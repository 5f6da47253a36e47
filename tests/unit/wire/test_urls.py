"""What is shown of a URL, and what counts as its secrets: values in any form, but not the names of parameters."""

from __future__ import annotations

from typing import List

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync import AgentRuntimeError, CommandFailedError, RuntimeUseClient
from runtimeuse_sync._wire.redaction import MASK, scrub
from runtimeuse_sync._wire.urls import mask_url, url_origin, url_secrets
from runtimeuse_sync.runtime import LocalRuntime

SECRET = "hunter2-hunter2"
SIGNED = f"https://user:{SECRET}@store.test:8443/a/b.zip?X-Signature={SECRET}&x=1#part"
SIGNATURE = "f4e2c1a9b7d3"
S3 = (
    "https://bucket.s3.amazonaws.com/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20261123T120000Z"
    "&X-Amz-Expires=3600&X-Amz-SignedHeaders=content-type%3Bhost&x-id=PutObject&response-content-type=text%2Fplain"
    "&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"
)
AZURE = "https://account.blob.core.windows.net/c/b?sv=2024-05-04&se=2026-11-23T12%3A00%3A00Z&sr=b&sp=rw&spr=https"


def shown(text: str, *urls: str) -> str:
    return scrub(text, [secret for url in urls for secret in url_secrets(url)])


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
def test_any_text_is_accepted(rest: str) -> None:
    for url in (rest, "ws://" + rest, "https://h/" + rest):
        url_origin(url)
        mask_url(url)
        url_secrets(url)


def test_presigned_urls_are_masked() -> None:
    assert mask_url(SIGNED) == f"https://store.test:8443/a/b.zip?{MASK}"
    assert mask_url("https://store.test/a/b.zip") == "https://store.test/a/b.zip"
    assert SECRET in url_secrets(SIGNED)


@pytest.mark.parametrize(
    "text",
    [
        "Unexpected token < in JSON",
        "ssh: connect to host localhost port 22",
        "timed out after 3600 s",
        "text/plain; AWS4-HMAC-SHA256; PutObject; content-type; 20261123T120000Z",
        "https://example.com, version 2024-05-04",
        "Signature and X-Amz-Signature",
    ],
)
def test_names_and_public_values_are_shown(text: str) -> None:
    urls = [f"ws://host.test/?token={SIGNATURE}", f"{S3}&X-Amz-Signature={SIGNATURE}", f"{AZURE}&sig={SIGNATURE}"]
    assert shown(text, *urls) == text
    assert shown(f"{text} {SIGNATURE}", *urls) == f"{text} {MASK}"


@pytest.mark.parametrize(
    ("query", "leaks"),
    [
        ("token=abc%2Fdef+gh", ["abc%2Fdef+gh", "abc/def gh", "abc/def+gh"]),
        ("abc%2Fdef", ["abc%2Fdef", "abc/def"]),
        ("a=1&abcdef&b=2", ["abcdef"]),
        ("key=YWJjZGVm==", ["YWJjZGVm==", "YWJjZGVm"]),
        ("a=first;token=second", ["first", "second", "first;token=second"]),
        ("next=/x?token=inner", ["/x?token=inner", "inner"]),
        ("=nameless", ["nameless"]),
        ("token=Zmlyc3RwYXJ0==.c2Vjb25k", ["Zmlyc3RwYXJ0", "Zmlyc3RwYXJ0==.c2Vjb25k"]),
        ("YWJjZGVm==", ["YWJjZGVm==", "YWJjZGVm"]),
        ("a=1&YWJjZGVm=", ["YWJjZGVm=", "YWJjZGVm"]),
    ],
)
def test_values_are_masked_in_each_form(query: str, leaks: List[str]) -> None:
    for leak in leaks:
        assert shown(f"<{leak}>", f"ws://host.test/?{query}") == f"<{MASK}>"


@pytest.mark.parametrize(
    "query",
    [
        "token=host",
        "X-Amz-SignedHeaders=host;hunter2",
        "X-Amz-Expires=3600hunter2",
        "X-Amz-Algorithm=hunter2",
        "content-type=text/hunter2",
        "X-Amz-Credential=hunter2",
        "X-Amz-Security-Token=hunter2",
        "X-Amz-Date=20261123T120000Z\N{ARABIC-INDIC DIGIT ONE}",
        "sv=hunter2",
    ],
)
def test_values_that_only_resemble_public_ones_are_masked(query: str) -> None:
    value = query.split("=")[1]
    assert shown(value, f"https://host.test/?{query}") == MASK


def test_error_texts_stay_readable_despite_a_token_in_the_url() -> None:
    said = "Unexpected token < in JSON"
    with LocalRuntime(agent="shell", token="hunter2") as runtime:
        client = RuntimeUseClient(f"{runtime.ws_url}/?token=hunter2", model="m")
        with pytest.raises(CommandFailedError) as failed:
            client.execute_commands([f"echo '{said}'; echo hunter2; exit 1"])
        with pytest.raises(AgentRuntimeError) as raised:
            client.query(f"echo '{said}' >&2; exit 1")
    assert failed.value.command == f"echo '{said}'; echo {MASK}; exit 1"
    assert said in failed.value.error
    assert failed.value.metadata == {"command": failed.value.command, "exit_code": 1}
    assert raised.value.metadata is not None
    assert raised.value.metadata["error_details"].strip() == said
