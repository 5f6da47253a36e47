"""What agents log: masked, by logging's rules, and never a reason to end their run."""

from __future__ import annotations

import logging
from typing import Any, Tuple

import pytest

from runtimeuse_sync.runtime import Invocation, Sender

from .conftest import Connect

MASK = "[REDACTED]"


class Untellable:
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("logged", "said"),
    [
        (("%(who)s is %(what)d", {"who": "hunter2", "what": 3}), f"{MASK} is 3"),
        (("%s", {"who": "hunter2"}), f"{{'who': '{MASK}'}}"),
        (("100%",), "100%"),
        ((["hunter2"],), f"['{MASK}']"),
        (("%(who)s", {"what": "hunter2"}), "%(who)s (its arguments cannot be formatted: KeyError)"),
        (("%d hunter2", "hunter2"), f"%d {MASK} (its arguments cannot be formatted: TypeError)"),
        (("none", "hunter2"), "none (its arguments cannot be formatted: TypeError)"),
        (("%", 1), "% (its arguments cannot be formatted: ValueError)"),
        (("%s and %s", "hunter2", Untellable()), "%s and %s (its arguments cannot be formatted: RuntimeError)"),
        ((Untellable(),), "Untellable (its arguments cannot be formatted: RuntimeError)"),
    ],
)
def test_what_an_agent_logs(
    talk: Connect, caplog: pytest.LogCaptureFixture, logged: Tuple[Any, ...], said: str
) -> None:
    def agent(invocation: Invocation, sender: Sender) -> str:
        invocation.logger.warning(*logged)
        return "done"

    [answer] = talk(agent).query(secrets_to_redact=["hunter2"])
    assert answer.get("data") == {"type": "text", "text": "done"}
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [said]
    assert [record.filename for record in caplog.records if record.levelno == logging.WARNING] == ["test_agent_logs.py"]
