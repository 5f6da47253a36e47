"""Secrets in places where nobody looks for them: misplaced in a name."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from runtimeuse_sync import CommandInterface, QueryOptions, RuntimeUseClient

SECRET = 'sk-live\n"TOPSECRET"'


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: QueryOptions(agent_env={f"TOKEN={SECRET}": ""}), "agent_env: 'TOKEN…'"),
        (lambda: QueryOptions(agent_env={f"TOKEN\0{SECRET}": ""}), "agent_env: 'TOKEN…'"),
        (lambda: QueryOptions(agent_env={"": SECRET}), "agent_env: ''"),
        (
            lambda: RuntimeUseClient("ws://h").execute_commands([CommandInterface("x", env={f"K={SECRET}": ""})]),
            r"commands\[0\].env: 'K…'",
        ),
        (
            lambda: RuntimeUseClient("ws://h", headers={f"Authorization: Bearer {SECRET}": ""}),
            "headers: 'Authorization…'",
        ),
        (
            lambda: RuntimeUseClient("ws://h", headers={f"Authorization: {SECRET}": 5}),  # type: ignore[dict-item]
            "headers: 'Authorization…'",
        ),
        (lambda: RuntimeUseClient("TOPSECRET:pw@host/x"), "must begin with ws:// or wss://$"),
        (lambda: RuntimeUseClient("TOPSECRET://host"), "must begin with ws:// or wss://$"),
        (lambda: RuntimeUseClient("http://TOPSECRET@host"), "must begin with ws:// or wss://, not http://$"),
    ],
)
def test_a_misplaced_secret_is_not_quoted(make: Callable[[], Any], shown: str) -> None:
    with pytest.raises(ValueError, match=shown) as caught:
        make()
    assert "topsecret" not in str(caught.value).lower()
