"""Tests of your own code with the package's pytest fixtures: a script of requests and replies, faults, your own agent.

Run it with pytest, or as it is. It needs the extra [runtime] for the last test.
"""

import os
import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from runtimeuse_sync import ConnectionLostError, RuntimeUseClient
from runtimeuse_sync.testing import FakeRuntime, assistant_message, command_results, lost_connection, text_result


def review() -> str:
    """The code under test: it finds its runtime by RUNTIMEUSE_WS_URL, as it does in production."""
    with RuntimeUseClient(model="gpt-4.1").session() as session:
        tests = session.execute_commands(["sh run-tests.sh"], timeout=600, check=False)
        failed = tests.results[0].exit_code != 0
        verdict = session.query("Review the change.", timeout=600).text
        return f"{'tests fail' if failed else 'tests pass'}; {verdict}"


def test_a_review(runtimeuse_fake: FakeRuntime) -> None:
    runtimeuse_fake.expect_commands("sh run-tests.sh", command_results("3 passed"))
    runtimeuse_fake.expect_query("Review the change.", "approved", model="gpt-4.1")
    assert review() == "tests pass; approved"


def test_a_review_where_tests_fail(runtimeuse_fake: FakeRuntime) -> None:
    runtimeuse_fake.expect_commands(reply=command_results(1))
    runtimeuse_fake.expect_query(reply="rejected")
    assert review() == "tests fail; rejected"


def test_a_sandbox_that_dies(runtimeuse_fake: FakeRuntime) -> None:
    runtimeuse_fake.expect_commands()
    runtimeuse_fake.expect([assistant_message("Reading it."), lost_connection()])
    with pytest.raises(ConnectionLostError) as caught:
        review()
    assert caught.value.assistant_texts == ["Reading it."]


def test_that_messages_are_shown_at_once(runtimeuse_fake: FakeRuntime, runtimeuse_client: RuntimeUseClient) -> None:
    shown = threading.Event()

    def work(_: Any) -> Iterator[Any]:
        yield assistant_message("Reading it.")
        # Only a client that shows it now gets the answer.
        assert shown.wait(10)
        yield from text_result("approved")

    runtimeuse_fake.expect(work)
    runtimeuse_client.query("Review the change.", on_assistant_message=lambda _: shown.set())


def agent(invocation: Any, _: Any) -> str:
    """Stands in for the model."""
    return f"{invocation.model} has seen {invocation.user_prompt!r}"


@pytest.mark.runtimeuse(agent=agent)
@pytest.mark.usefixtures("runtimeuse_runtime")
def test_with_real_commands(tmp_path: Path) -> None:
    # Commands run in the test's own directory.
    (tmp_path / "run-tests.sh").write_text("echo 3 passed\n")
    assert review() == "tests pass; gpt-4.1 has seen 'Review the change.'"


if __name__ == "__main__":
    # Without this repository's settings for pytest, and leaving nothing behind.
    settings = ["-c", os.devnull, "--rootdir", str(Path(__file__).parent), "-p", "no:cacheprovider"]
    sys.exit(pytest.main([__file__, "-q", *settings]))
