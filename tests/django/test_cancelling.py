"""`cancellable` and `request_cancel`: the right run is cancelled, and no other one."""

from __future__ import annotations

import logging
import pickle
import threading
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.core.cache import InvalidCacheBackendError, caches
from django.http import HttpRequest
from django.test import RequestFactory

from runtimeuse_sync import CancelledException, RuntimeUseClient
from runtimeuse_sync.django import cancellable, request_cancel
from runtimeuse_sync.testing import HANG, FakeRuntime

from ..support.django_project import new_user
from ..support.servers import PATIENCE


def request_of(user: Any = None, session: Any = None) -> HttpRequest:
    request = RequestFactory().get("/")
    request.user = user or AnonymousUser()
    if session is not None:
        request.session = session
    return request


def test_a_run_is_cancelled_by_its_key() -> None:
    fake = FakeRuntime([HANG])
    client = RuntimeUseClient(transport=fake, model="any")
    asked = cancellable("run-1")

    def cancel_when() -> bool:
        # By the time of the second look the request is in flight.
        if fake.requests:
            request_cancel("run-1")
        return asked()

    with pytest.raises(CancelledException):
        client.query("…", cancel_when=cancel_when, cancel_poll_interval=0.01, timeout=PATIENCE)


def test_it_is_asked_from_another_thread() -> None:
    asked = cancellable("run-1")
    assert not asked()
    thread = threading.Thread(target=request_cancel, args=("run-1",))
    thread.start()
    thread.join()
    assert asked()
    assert asked()


@pytest.mark.parametrize(
    ("key", "same"), [(7, "7"), (uuid.UUID(int=7), str(uuid.UUID(int=7))), ("key with spaces\n" * 99,) * 2]
)
def test_a_key_is_the_same_as_a_number_and_as_text(key: Any, same: Any) -> None:
    asked, other = cancellable(key), cancellable(f"{key}0")
    request_cancel(same)
    assert asked()
    assert not other()


def test_what_an_earlier_run_left_has_no_effect() -> None:
    request_cancel("run-1")
    asked = cancellable("run-1")
    assert not asked()
    request_cancel("run-1")
    assert asked()
    assert not cancellable("run-1")()


def test_a_run_that_waited_in_a_queue_is_cancelled_by_what_came_before_it() -> None:
    request_cancel("run-1")
    assert cancellable("run-1", include_earlier=True)()
    assert not cancellable("run-2", include_earlier=True)()


def test_what_is_left_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("django.core.cache.backends.locmem.time.time", lambda: now[0])
    monkeypatch.setattr("django.core.cache.backends.base.time.time", lambda: now[0])
    request_cancel("run-1", timeout=59.5)
    now[0] += 59
    assert cancellable("run-1", include_earlier=True)()
    now[0] += 2
    assert not cancellable("run-1", include_earlier=True)()


def test_all_runs_with_a_key_are_cancelled() -> None:
    first, second = cancellable("run-1"), cancellable("run-1")
    request_cancel("run-1")
    assert first()
    assert second()


def test_nobody_cancels_another_users_run(database: None) -> None:
    ann, ben = new_user("ann"), new_user("ben")
    asked = cancellable("run-1", request_of(ann))
    for other in (ben, request_of(ben), request_of(session=SessionStore()), None):
        request_cancel("run-1", other)
    request_cancel(f'{ann.pk}", "run-1')
    assert not asked()
    request_cancel("run-1", ann)
    assert asked()


def test_an_anonymous_run_belongs_to_its_session(database: None) -> None:
    session = SessionStore()
    asked = cancellable("run-1", request_of(session=session))
    request_cancel("run-1", request_of(session=SessionStore()))
    assert not asked()
    # What the next request of the same browser finds.
    request_cancel("run-1", request_of(session=SessionStore(session.session_key)))
    assert asked()


def test_a_session_that_gets_a_new_key_keeps_its_runs(database: None) -> None:
    session = SessionStore()
    asked = cancellable("run-1", request_of(session=session))
    session.cycle_key()
    request_cancel("run-1", request_of(session=session))
    assert asked()


def test_sessions_in_cookies_work() -> None:
    session = CookieStore()
    asked = cancellable("run-1", request_of(session=session))
    session["more"] = "so that its key changes"
    session.save()
    request_cancel("run-1", request_of(session=CookieStore(session.session_key)))
    assert asked()


def test_asking_makes_no_session(database: None) -> None:
    session = SessionStore()
    request_cancel("run-1", request_of(session=session))
    assert session.session_key is None
    assert not session.modified


def test_it_goes_to_another_process() -> None:
    request_cancel("run-1")
    asked = pickle.loads(pickle.dumps(cancellable("run-1")))
    assert not asked()
    request_cancel("run-1")
    assert asked()


class Failing:
    """A cache that can be out of reach."""

    def __init__(self) -> None:
        self.error: Any = None

    def get(self, key: str) -> Any:
        if self.error is not None:
            raise self.error
        return caches["default"].get(key)

    def set(self, *arguments: Any) -> None:
        raise ConnectionError("no cache at redis://:secret@host")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    found = Failing()
    monkeypatch.setattr("runtimeuse_sync.django._cancelling.caches", {"broken": found, "default": caches["default"]})
    return found


def test_a_run_outlives_an_outage_of_the_cache(failing: Failing, caplog: pytest.LogCaptureFixture) -> None:
    asked = cancellable("run-1", cache="broken")
    failing.error = ConnectionError("no cache at redis://:secret@host")
    with caplog.at_level(logging.WARNING, "runtimeuse_sync"):
        assert not asked()
        assert not asked()
    assert len(caplog.records) == 1
    assert "ConnectionError" in caplog.text
    assert "secret" not in caplog.text
    request_cancel("run-1")
    failing.error = None
    assert asked()


def test_an_outage_is_told_to_whoever_wants_to_cancel(failing: Failing) -> None:
    with pytest.raises(ConnectionError):
        request_cancel("run-1", cache="broken")


def test_an_outage_at_the_beginning_is_told(failing: Failing) -> None:
    failing.error = ConnectionError()
    with pytest.raises(ConnectionError):
        cancellable("run-1", cache="broken")


@pytest.mark.parametrize(
    ("key", "owner", "error", "text"),
    [
        (None, None, TypeError, "key must be a str, an int or a UUID, not NoneType"),
        (True, None, TypeError, "key must be a str, an int or a UUID, not bool"),
        (b"key", None, TypeError, "not bytes"),
        (" ", None, ValueError, "key must not be empty"),
        ("key", "ann", TypeError, "owner must be a request or a user, not str"),
        ("key", AnonymousUser(), ValueError, "not an anonymous one"),
        ("key", request_of(), ValueError, "neither a logged-in user nor a session"),
    ],
)
def test_wrong_keys_and_owners(key: Any, owner: Any, error: Any, text: str) -> None:
    for function in (cancellable, request_cancel):
        with pytest.raises(error, match=text):
            function(key, owner)


def test_other_wrong_arguments() -> None:
    for timeout in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="timeout"):
            request_cancel("run-1", timeout=timeout)
    with pytest.raises(TypeError, match="timeout"):
        request_cancel("run-1", timeout="60")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="include_earlier"):
        cancellable("run-1", include_earlier=1)  # type: ignore[arg-type]
    for function in (cancellable, request_cancel):
        with pytest.raises(InvalidCacheBackendError):
            function("run-1", cache="none")
