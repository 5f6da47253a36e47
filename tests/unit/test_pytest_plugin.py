"""The pytest plugin, in projects of its own."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from pathlib import Path

import pytest

import runtimeuse_sync.pytest_plugin
from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.runtime import LocalRuntime

from ..support.markdown import blocks, snippets
from ..support.plugin import INSTALLED

#: Loads the plugin.
LOAD = [] if INSTALLED else ["-p", runtimeuse_sync.pytest_plugin.__name__]


@pytest.fixture(scope="module", autouse=True)
def everything_is_imported() -> None:
    """Some modules are imported late. A project that runs in this process must not leave copies of them behind."""
    with LocalRuntime(agent="shell") as runtime:
        RuntimeUseClient(runtime.ws_url, model="m").query("true")


@pytest.fixture(autouse=True)
def plain_project(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    monkeypatch.delenv("RUNTIMEUSE_WS_URL", raising=False)
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = --strict-markers -p no:cacheprovider")


def project(pytester: pytest.Pytester, source: str) -> None:
    pytester.makepyfile(textwrap.dedent(source))


def here(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Runs the project in this process."""
    return pytester.runpytest_inprocess(*LOAD, "-p", "no:randomly", *arguments)


def apart(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> pytest.RunResult:
    """Runs the project in a process of its own, without the plugins of other packages."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester.runpytest_subprocess("-p", runtimeuse_sync.pytest_plugin.__name__, *arguments)


def test_a_runtime_of_the_tests_own(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        import os, unittest
        import pytest
        from runtimeuse_sync import RuntimeUseClient

        seen = []

        def agent(invocation, sender):
            return invocation.model + ": " + invocation.user_prompt

        def test_the_default_is_a_shell_in_a_directory_of_its_own(runtimeuse_runtime, tmp_path):
            client = RuntimeUseClient(runtimeuse_runtime.ws_url, model="m")
            assert client.query("pwd").text.strip() == str(tmp_path)
            seen.append(runtimeuse_runtime)

        def test_the_environment_leads_to_it(runtimeuse_runtime):
            assert RuntimeUseClient(model="m").execute_commands("echo hello").results[0].stdout == "hello\\n"
            seen.append(runtimeuse_runtime)

        @pytest.mark.runtimeuse(agent=agent)
        def test_an_agent(runtimeuse_client):
            assert runtimeuse_client.query("p").text == "test-model: p"

        @pytest.mark.runtimeuse(agent="echo", token="a b/c?".replace(" ", ""))
        class TestOfAClass:
            def test_its_marker(self, runtimeuse_client):
                assert runtimeuse_client.query("p").text == "p"
                assert RuntimeUseClient(model="m").query("q").text == "q"

            @pytest.mark.runtimeuse(agent=agent, heartbeat_interval=0.02)
            def test_both_markers(self, runtimeuse_client, runtimeuse_runtime):
                assert runtimeuse_client.query("p").text == "test-model: p"
                with pytest.raises(ConnectionError, match="401"):
                    RuntimeUseClient(runtimeuse_runtime.ws_url, model="m").query("p")

        @pytest.mark.usefixtures("runtimeuse_runtime")
        class TestOfUnittest(unittest.TestCase):
            def test_it(self):
                self.assertEqual(RuntimeUseClient(model="m").query("echo 1").text.strip(), "1")

        def test_each_has_its_own_and_none_is_left():
            assert len(set(seen)) == 2
            assert [repr(each) for each in seen] == ["<LocalRuntime not running>"] * 2
            assert "RUNTIMEUSE_WS_URL" not in os.environ
        """,
    )
    here(pytester).assert_outcomes(passed=7)


def test_what_is_wrong_with_a_runtime_is_said_in_a_line(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        import pytest

        @pytest.mark.runtimeuse(agnt="echo")
        def test_1(runtimeuse_runtime): pass

        @pytest.mark.runtimeuse("echo")
        def test_2(runtimeuse_runtime): pass

        @pytest.mark.runtimeuse(kill_grace=-1)
        def test_3(runtimeuse_client): pass

        @pytest.mark.runtimeuse(agent="no such agent")
        def test_4(runtimeuse_client): pass

        def test_5(runtimeuse_runtime, runtimeuse_fake): pass
        """,
    )
    result = here(pytester)
    result.assert_outcomes(errors=5)
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.runtimeuse: LocalRuntime has no argument agnt; did you mean agent?",
            "@pytest.mark.runtimeuse takes keywords only, such as agent=*, and got 'echo'",
            "@pytest.mark.runtimeuse: kill_grace must be *",
            "@pytest.mark.runtimeuse: *no such agent*",
            "a test can use runtimeuse_fake or runtimeuse_runtime, not both: *",
        ]
    )
    assert "pytest_plugin.py" not in result.stdout.str()


def test_without_the_extra_the_error_names_it(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    hide = {"websockets": None}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: hide.get(name, real(name, *more)))
    project(
        pytester,
        """
        def test_runtime(runtimeuse_runtime): pass

        def test_fake(runtimeuse_fake, runtimeuse_client):
            runtimeuse_fake.expect("fine")
            assert runtimeuse_client.query("p").text == "fine"
        """,
    )
    result = here(pytester)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*needs the package 'websockets'*pip install \"runtimeuse-sync?runtime?\"*"])


def test_a_script_that_is_kept(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        import os
        import pytest
        from runtimeuse_sync import RuntimeUseClient

        def test_both_ways(runtimeuse_fake, runtimeuse_client):
            runtimeuse_fake.expect_query("p", "in memory", model="test-model")
            runtimeuse_fake.expect_query("q", "by the environment")
            assert runtimeuse_client.query("p").text == "in memory"
            assert RuntimeUseClient(model="m").query("q", timeout=60).text == "by the environment"

        @pytest.fixture
        def closing(runtimeuse_client):
            yield
            runtimeuse_client.execute_commands("rm -r work")

        def test_what_a_fixture_sends_at_its_end(runtimeuse_fake, closing):
            runtimeuse_fake.answer_all(lambda request: [{"message_type": "command_execution_result_message",
                                                         "results": []}])

        def test_nothing_is_left(runtimeuse_fake):
            pass

        def test_nothing_is_left_in_the_environment():
            assert "RUNTIMEUSE_WS_URL" not in os.environ
        """,
    )
    here(pytester).assert_outcomes(passed=4)


def test_a_script_that_is_not_kept_fails_the_test_itself(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        import contextlib
        import pytest

        def test_missing(runtimeuse_fake):
            runtimeuse_fake.expect_query("What is 2 + 2?", "4")

        def test_hidden(runtimeuse_fake, runtimeuse_client):
            with contextlib.suppress(Exception):
                runtimeuse_client.query("nobody expects")

        def test_raised(runtimeuse_fake, runtimeuse_client):
            runtimeuse_fake.expect_query("a", "b")
            runtimeuse_client.query("c")

        @pytest.mark.xfail(strict=True)
        def test_expected_to_fail(runtimeuse_fake):
            runtimeuse_fake.expect("4")

        def test_skipped(runtimeuse_fake):
            runtimeuse_fake.expect("4")
            pytest.skip("for a reason")
        """,
    )
    result = here(pytester, "-rA")
    result.assert_outcomes(failed=3, xfailed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*the requests are not those that FakeRuntime expected (1 missing):",
            "- query 'What is 2 + 2?'",
            "*(1 not expected):",
            "+ query 'nobody expects'",
            "*AgentRuntimeError: FakeRuntime did not expect query 'c'; it expected query 'a'",
            "*runtimeuse_fake*",
            "*(1 not expected, 1 missing):",
            "- query 'a'",
            "+ query 'c'",
        ]
    )


def test_what_comes_after_the_test_fails_its_teardown(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        import contextlib
        import pytest

        @pytest.fixture
        def closing(runtimeuse_client):
            yield
            with contextlib.suppress(Exception):
                runtimeuse_client.query("after all")

        def test_it(runtimeuse_fake, closing):
            pass
        """,
    )
    result = here(pytester)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["+ query 'after all'"])


def test_where_sockets_are_blocked(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """
        import os, socket
        import pytest

        @pytest.fixture
        def blocked(monkeypatch):
            def refuse(*arguments, **named):
                raise RuntimeError("A test tried to use socket.socket.")
            monkeypatch.setattr(socket, "create_server", refuse)

        def test_in_memory(blocked, runtimeuse_fake, runtimeuse_client):
            runtimeuse_fake.expect_query("p", "fine")
            assert runtimeuse_client.query("p").text == "fine"
            assert "RUNTIMEUSE_WS_URL" not in os.environ
        """,
    )
    here(pytester).assert_outcomes(passed=1)


def test_the_guides_tests(pytester: pytest.Pytester) -> None:
    """The tests in docs/testing.md pass, and fail as it shows."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    of_pytest = text.partition("## With unittest")[0]
    tests = "\n".join(snippet.code.text for snippet in snippets(of_pytest))
    pytester.makepyfile(tests)
    here(pytester).assert_outcomes(passed=tests.count("def test_"))
    (failing,) = [block.text for block in blocks(text) if block.text.startswith("the requests are ")]
    pytester.makepyfile(tests.replace('expect_query("Summarise', 'expect_query("Summarize'))
    result = here(pytester)
    assert result.parseoutcomes()["failed"] == 1
    assert failing in result.stdout.str() + "\n"


@pytest.mark.skipif(sys.version_info[:2] not in ((3, 8), (3, 13)), reason="takes long: on two Pythons only")
def test_beside_xdist_and_random_order(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    project(
        pytester,
        """
        import pytest
        from runtimeuse_sync import RuntimeUseClient

        @pytest.mark.parametrize("number", range(6))
        @pytest.mark.runtimeuse(agent="echo")
        def test_runtime(runtimeuse_runtime, number):
            assert RuntimeUseClient(model="m").query(str(number)).text == str(number)

        @pytest.mark.parametrize("number", range(6))
        def test_fake(runtimeuse_fake, number):
            runtimeuse_fake.expect_query(str(number), "fine")
            assert RuntimeUseClient(model="m").query(str(number)).text == "fine"
        """,
    )
    apart(pytester, monkeypatch, "-p", "xdist", "-p", "randomly", "-n", "2").assert_outcomes(passed=12)


def test_it_can_be_kept_out(pytester: pytest.Pytester) -> None:
    project(pytester, "def test_it(runtimeuse_fake): pass")
    name = "runtimeuse" if INSTALLED else runtimeuse_sync.pytest_plugin.__name__
    result = pytester.runpytest_inprocess("-p", f"no:{name}")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'runtimeuse_fake' not found"])


def test_where_it_is_not_used_it_imports_nothing(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeconftest(
        """
        import sys

        def pytest_sessionfinish():
            print("\\nloaded:", *sorted(name for name in sys.modules if name.startswith("runtimeuse_sync")))
            print("heavy:", *sorted({"websocket", "websockets"} & set(sys.modules)))
            # Up to Python 3.10, pytest itself may import asyncio, with unittest.
            if sys.version_info >= (3, 11):
                print("heavy:", *sorted({"ssl", "asyncio"} & set(sys.modules)))
        """
    )
    project(pytester, "def test_it(): pass")
    lines = apart(pytester, monkeypatch, "-s").outlines
    assert "loaded: runtimeuse_sync runtimeuse_sync.pytest_plugin" in lines, lines
    assert {line.strip() for line in lines if line.startswith("heavy:")} == {"heavy:"}


def test_the_marker_and_the_fixtures_are_documented(pytester: pytest.Pytester) -> None:
    result = here(pytester, "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.runtimeuse(agent=*"])
    result = here(pytester, "--fixtures")
    for name in ("runtimeuse_runtime", "runtimeuse_fake", "runtimeuse_client"):
        result.stdout.fnmatch_lines([f"{name} -- *"])
