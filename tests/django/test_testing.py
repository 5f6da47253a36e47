"""`RuntimeUseTestMixin`, and the pytest fixtures beside Django: a runtime a test, and callbacks in the right thread."""

from __future__ import annotations

import os
import threading
import unittest
import urllib.request
from typing import Any, Callable, List, Type

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.http import HttpResponse
from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase, override_settings
from django.urls import path

from runtimeuse_sync import AgentRuntimeError, RuntimeUseClient
from runtimeuse_sync.client import URL_VARIABLE
from runtimeuse_sync.django import RuntimeUseTestMixin, get_client
from runtimeuse_sync.testing import assistant_message, text_result

from ..support.plugin import INSTALLED

ELSEWHERE = {"default": {"WS_URL": "wss://production.example", "MODEL": "gpt-4.1", "HEADERS": {"X-Key": "s3cret"}}}

User = get_user_model()


def names() -> List[str]:
    return [user.username for user in User.objects.all()]


def remember(message: Any) -> None:
    """A callback that writes into the database."""
    User.objects.create(username=message.text_blocks[0])


def ask(request: Any) -> HttpResponse:
    text = get_client().query(request.GET["question"], on_assistant_message=remember).text
    return HttpResponse(text or "")


urlpatterns = [path("ask", ask)]


def run(case: Type[Any]) -> unittest.TestResult:
    """Run the tests of a class, as Django's runner does."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    return result


def texts(result: unittest.TestResult) -> str:
    return "\n".join(text for _, text in [*result.failures, *result.errors])


def shout(invocation: Any, sender: Any) -> str:
    sender.send_assistant_message(["heard"])
    return str(invocation.user_prompt).upper()


@override_settings(RUNTIMEUSE=ELSEWHERE, ROOT_URLCONF=__name__)
class InATransaction(RuntimeUseTestMixin, TestCase):
    """Callbacks are in the caller's thread, so they are in the test's transaction."""

    runtimeuse_agent = staticmethod(shout)

    def test_a_callback_is_in_the_transaction(self) -> None:
        before = threading.get_ident()
        seen: List[Any] = []

        def remembered(message: Any) -> None:
            remember(message)
            seen.append((threading.get_ident(), connection.in_atomic_block, names()))

        User.objects.create(username="before")
        assert get_client().query("hello", on_assistant_message=remembered).text == "HELLO"
        assert seen == [(before, True, ["before", "heard"])]

    def test_what_a_callback_wrote_is_rolled_back(self) -> None:
        assert names() == []
        assert self.client.get("/ask", {"question": "and now?"}).content == b"AND NOW?"
        assert names() == ["heard"]

    def test_it_has_a_client(self) -> None:
        assert self.runtimeuse_client is get_client()
        assert self.runtimeuse_client.query("hello").text == "HELLO"
        assert os.environ[URL_VARIABLE] == self.runtimeuse_runtime.ws_url
        with pytest.raises(AttributeError, match="only without runtimeuse_agent"):
            self.runtimeuse_fake  # noqa: B018

    def test_commands_run_in_a_folder_of_their_own(self) -> None:
        done = get_client().execute_commands(["pwd"])
        assert "runtimeuse-test-" in str(done.results[0].stdout)


@override_settings(RUNTIMEUSE=ELSEWHERE, ROOT_URLCONF=__name__)
class Scripted(RuntimeUseTestMixin, TransactionTestCase):
    """A fake runtime, and real transactions."""

    def test_requests_are_expected(self) -> None:
        self.runtimeuse_fake.expect_query("2+2", [assistant_message("ann"), *text_result("4")], model="gpt-4.1")
        assert self.client.get("/ask", {"question": "2+2"}).content == b"4"
        assert names() == ["ann"]
        assert not connection.in_atomic_block

    def test_the_environment_leads_to_it(self) -> None:
        self.runtimeuse_fake.expect_query("3", "three")
        assert RuntimeUseClient(model="any").query("3").text == "three"
        with pytest.raises(AttributeError, match="only with runtimeuse_agent"):
            self.runtimeuse_runtime  # noqa: B018


@override_settings(RUNTIMEUSE=ELSEWHERE)
class WithoutADatabase(RuntimeUseTestMixin, SimpleTestCase):
    """An agent that is a method."""

    runtimeuse_settings = {"token": "s3cret/token"}  # noqa: RUF012
    asked = 0

    def runtimeuse_agent(self, invocation: Any, sender: Any) -> str:
        self.asked += 1
        return str(invocation.model)

    def test_the_agent_is_a_method(self) -> None:
        assert get_client().query("hello").text == "gpt-4.1"
        assert self.asked == 1


@override_settings(RUNTIMEUSE=ELSEWHERE, ROOT_URLCONF=__name__)
class Live(RuntimeUseTestMixin, LiveServerTestCase):
    """A server in a thread."""

    runtimeuse_agent = staticmethod(shout)

    def test_views_in_the_servers_threads_reach_the_runtime(self) -> None:
        with urllib.request.urlopen(f"{self.live_server_url}/ask?question=hello") as response:
            assert response.read() == b"HELLO"
        assert names() == ["heard"]


@pytest.fixture
def case_of() -> Callable[..., Type[Any]]:
    """Returns a function that makes a class of tests of one function."""

    def make(test: Callable[[Any], Any], *bases: Any, **attributes: Any) -> Type[Any]:
        return type("Case", bases or (RuntimeUseTestMixin, SimpleTestCase), {"test_it": test, **attributes})

    return make


def test_an_expected_request_that_does_not_come_fails_the_test(case_of: Any) -> None:
    result = run(case_of(lambda self: self.runtimeuse_fake.expect_query("2+2", "4")))
    assert len(result.failures) == 1
    assert "2+2" in texts(result)


def test_an_unexpected_request_fails_the_test(case_of: Any) -> None:
    def swallow(self: Any) -> None:
        with pytest.raises(AgentRuntimeError):
            get_client().query("what?")

    result = run(case_of(swallow))
    assert len(result.failures) == 1
    assert "what?" in texts(result)


def test_a_test_that_fails_or_is_skipped_has_no_further_failures(case_of: Any) -> None:
    def fail(self: Any) -> None:
        self.runtimeuse_fake.expect_query("2+2", "4")
        self.fail("the test's own")

    def skip(self: Any) -> None:
        self.runtimeuse_fake.expect_query("2+2", "4")
        self.skipTest("not today")

    failed = run(case_of(fail))
    assert (len(failed.failures), len(failed.errors)) == (1, 0)
    assert "the test's own" in texts(failed)
    skipped = run(case_of(skip))
    assert (len(skipped.skipped), texts(skipped)) == (1, "")
    expected = run(case_of(unittest.expectedFailure(fail)))
    assert (len(expected.expectedFailures), texts(expected)) == (1, "")


def test_afterwards_all_is_as_before(case_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    with override_settings(RUNTIMEUSE=ELSEWHERE):
        before = repr(get_client())

        def differ(self: Any) -> None:
            assert repr(get_client()) != before

        for attributes in ({}, {"runtimeuse_agent": "echo"}):
            assert texts(run(case_of(differ, **attributes))) == ""
            assert repr(get_client()) == before
            assert URL_VARIABLE not in os.environ


def test_what_is_wrong_with_the_agent_is_told(case_of: Any) -> None:
    for attributes, text in (
        ({"runtimeuse_agent": "nobody"}, "nobody"),
        ({"runtimeuse_agent": "echo", "runtimeuse_settings": {"tokens": "x"}}, "tokens"),
    ):
        result = run(case_of(lambda self: None, **attributes))
        assert len(result.errors) == 1
        assert text in texts(result)


def test_the_order_of_the_classes_matters(case_of: Any) -> None:
    with pytest.raises(TypeError, match="put RuntimeUseTestMixin before"):
        case_of(lambda self: None, SimpleTestCase, RuntimeUseTestMixin)


def test_the_plugins_fixtures_lead_django_to_their_runtime(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from django.contrib.auth import get_user_model
        from django.db import connection
        from django.test import TestCase, override_settings
        from runtimeuse_sync.django import get_client
        from runtimeuse_sync.testing import assistant_message, text_result

        User = get_user_model()
        elsewhere = override_settings(RUNTIMEUSE={"default": {"WS_URL": "wss://production.example", "MODEL": "m"}})

        def remember(message):
            assert connection.in_atomic_block
            User.objects.create(username=message.text_blocks[0])

        def shout(invocation, sender):
            sender.send_assistant_message(["heard"])
            return invocation.user_prompt.upper()

        @elsewhere
        class WithTheFake(TestCase):
            @pytest.fixture(autouse=True)
            def fake(self, runtimeuse_fake):
                self.runtime = runtimeuse_fake

            def test_it(self):
                self.runtime.expect_query("2+2", [assistant_message("ann"), *text_result("4")], model="m")
                assert get_client().query("2+2", on_assistant_message=remember).text == "4"
                assert User.objects.filter(username="ann").exists()

        @elsewhere
        class WithARuntime(TestCase):
            @pytest.mark.runtimeuse(agent=shout)
            @pytest.mark.usefixtures("runtimeuse_runtime")
            def test_it(self):
                assert get_client().query("hello", on_assistant_message=remember).text == "HELLO"
                assert User.objects.filter(username="heard").exists()
        """
    )
    load = [] if INSTALLED else ["-p", "runtimeuse_sync.pytest_plugin"]
    pytester.runpytest_inprocess(*load, "-p", "no:randomly", "-p", "no:cacheprovider").assert_outcomes(passed=2)
    assert names() == []
