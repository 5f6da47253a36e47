"""`get_client`: one client a process and alias, made of the settings."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from typing import Any, List

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.utils.functional import SimpleLazyObject, lazystr

from runtimeuse_sync import RuntimeUseClient
from runtimeuse_sync.client import URL_VARIABLE
from runtimeuse_sync.django import get_client
from runtimeuse_sync.testing import FakeRuntime, text_result

from ..support.processes import CHILD_LIMIT

HERE = "ws://127.0.0.1:1"


def one_alias(**settings: Any) -> Any:
    return override_settings(RUNTIMEUSE={"default": {"WS_URL": HERE, **settings}})


def test_there_is_one_client_an_alias() -> None:
    with override_settings(RUNTIMEUSE={"default": {"WS_URL": HERE}, "other": {"WS_URL": "ws://127.0.0.1:2"}}):
        assert get_client() is get_client("default")
        assert get_client("other") is get_client("other")
        assert get_client() is not get_client("other")
        assert repr(get_client("other")) == "RuntimeUseClient('ws://127.0.0.1:2')"


def test_threads_get_the_same_one() -> None:
    made: List[RuntimeUseClient] = []
    count = 8
    together = threading.Barrier(count)

    def get() -> None:
        together.wait()
        made.append(get_client())

    with one_alias():
        threads = [threading.Thread(target=get) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == count
        assert set(made) == {get_client()}


def test_overridden_settings_make_another_one() -> None:
    with one_alias(MODEL="first"):
        before = get_client()
        with override_settings(RUNTIMEUSE={"default": {"WS_URL": "ws://127.0.0.1:2"}}):
            assert repr(get_client()) == "RuntimeUseClient('ws://127.0.0.1:2')"
        assert get_client() is not before
        assert repr(get_client()) == repr(before)
        # Other settings do not matter.
        with override_settings(DEBUG=True):
            now = get_client()
        assert get_client() is now


def test_settings_are_the_clients_defaults() -> None:
    fake = FakeRuntime([text_result("4")])
    settings = {
        "TRANSPORT": fake,
        "MODEL": lambda: "of-a-callable",
        "SYSTEM_PROMPT": lazystr("lazy"),
        "AGENT_ENV": {"KEY": lambda: "from a vault"},
        "SECRETS_TO_REDACT": (lambda: "s3cret-value", SimpleLazyObject(lambda: "another-one")),
        "TIMEOUT": 60,
        "KEEP_OUTPUT": 0,
    }
    with override_settings(RUNTIMEUSE={"default": settings}):
        assert get_client().query("2+2").text == "4"
    sent = fake.requests[0]
    assert sent["model"] == "of-a-callable"
    assert sent["system_prompt"] == "lazy"
    assert sent["agent_env"] == {"KEY": "from a vault"}
    assert sent["secrets_to_redact"] == ["s3cret-value", "another-one"]


heard: List[str] = []


def hear(message: Any) -> None:
    heard.append(message)


def test_objects_are_named_by_their_path() -> None:
    from runtimeuse_sync.testing import assistant_message

    fake = FakeRuntime([[assistant_message("Hm."), *text_result("4")]])
    path = f"{__name__}.hear"
    settings = {"TRANSPORT": fake, "MODEL": "any", "ON_ASSISTANT_MESSAGE": path, "LOGGER": "project.agents"}
    heard.clear()
    with override_settings(RUNTIMEUSE={"default": settings}):
        get_client().query("2+2")
        assert get_client()._defaults.of_commands("logger") is logging.getLogger("project.agents")
    assert len(heard) == 1


@pytest.mark.parametrize("path", [".hear", ".heartbeats.hear", "no.such.module", "hear"])
def test_a_path_that_leads_nowhere(path: str) -> None:
    with one_alias(ON_HEARTBEAT=path), pytest.raises(
        ImproperlyConfigured, match=r"RUNTIMEUSE\['default'\]\['ON_HEARTBEAT'\]: "
    ):
        get_client()


def test_callbacks_are_not_called_for_their_value() -> None:
    def never(*_: Any) -> bool:
        raise AssertionError

    with one_alias(ON_HEARTBEAT=never, CANCEL_WHEN=never):
        get_client()


def test_a_secret_that_cannot_be_had_is_asked_for_again() -> None:
    answers: List[Any] = [ConnectionError("no vault"), "Bearer 1"]

    def token() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with one_alias(HEADERS={"Authorization": token}):
        with pytest.raises(ConnectionError):
            get_client()
        assert get_client() is get_client()


def test_a_callable_may_use_another_alias() -> None:
    def model() -> str:
        return repr(get_client("other"))

    with override_settings(RUNTIMEUSE={"default": {"WS_URL": HERE, "MODEL": model}, "other": {"WS_URL": HERE}}):
        get_client()


def test_without_a_url_it_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    without: List[Any] = [{"default": {}}, {"default": {"WS_URL": None}}, None]
    for settings in without:
        with override_settings(RUNTIMEUSE=settings):
            monkeypatch.setenv(URL_VARIABLE, HERE)
            assert get_client() is get_client()
            assert repr(get_client()) == f"RuntimeUseClient('{HERE}')"
            monkeypatch.setenv(URL_VARIABLE, "ws://127.0.0.1:2")
            assert repr(get_client()) == "RuntimeUseClient('ws://127.0.0.1:2')"
            monkeypatch.delenv(URL_VARIABLE)
            with pytest.raises(ImproperlyConfigured, match=r"RUNTIMEUSE\['default'\] has no 'WS_URL'"):
                get_client()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ([], "RUNTIMEUSE must be a dictionary of aliases, .*, not list"),
        ({}, "RUNTIMEUSE has no alias 'default'; there are none"),
        ({"defualt": {}}, "RUNTIMEUSE has no alias 'default'; did you mean 'defualt'?"),
        ({"default": HERE}, r"RUNTIMEUSE\['default'\] must be a dictionary, not str"),
        ({"default": {"WS_ULR": HERE}}, "unknown key 'WS_ULR'; did you mean 'WS_URL'?"),
        ({"default": {"ws_url": HERE}}, "unknown key 'ws_url'; did you mean 'WS_URL'?"),
        ({"default": {3: HERE}}, "unknown key 3; there are 'AGENT_ENV', "),
        ({"default": {"WS_URL": "ftp://x"}}, r"RUNTIMEUSE\['default'\]: ws_url"),
        ({"default": {"WS_URL": HERE, "TIMEOUT": "60"}}, r"RUNTIMEUSE\['default'\]: timeout must be"),
        ({"default": {"WS_URL": HERE, "CANCEL_WHEN": "no.such.thing"}}, r"\['CANCEL_WHEN'\]: No module named 'no'"),
    ],
)
def test_wrong_settings(settings: Any, text: str) -> None:
    with override_settings(RUNTIMEUSE=settings), pytest.raises(ImproperlyConfigured, match=text):
        get_client()


def test_an_alias_is_text() -> None:
    with pytest.raises(TypeError, match="alias must be a str, not NoneType"):
        get_client(None)  # type: ignore[arg-type]


def in_a_child(script: str, **environment: str) -> str:
    """Return what a script writes in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=CHILD_LIMIT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_has_clients_of_its_own() -> None:
    # Forked by a thread that is not the one that holds the lock: the child has only the forking one.
    written = in_a_child(
        """
import os, threading
from django.conf import settings
held, go_on = threading.Event(), threading.Event()
def model():
    if threading.current_thread() is not threading.main_thread():
        held.set()
        go_on.wait(30)
    return "any"
url = "ws://127.0.0.1:1"
settings.configure(RUNTIMEUSE={"default": {"WS_URL": url}, "slow": {"WS_URL": url, "MODEL": model}})
from runtimeuse_sync.django import get_client
parents = get_client()
thread = threading.Thread(target=get_client, args=("slow",))
thread.start()
held.wait(30)
child = os.fork()
if child == 0:
    os._exit(0 if get_client() is not parents and get_client("slow") is get_client("slow") else 1)
_, status = os.waitpid(child, 0)
go_on.set()
thread.join()
assert get_client() is parents
print("child:", status)
"""
    )
    assert written == "child: 0\n"


def test_importing_it_needs_no_settings() -> None:
    written = in_a_child(
        """
import sys
import runtimeuse_sync.django as app
print(sorted(name for name in sys.modules if name.split(".")[0] in ("django", "asyncio", "concurrent")))
print(sorted(set(app.__all__) - set(dir(app))))
from runtimeuse_sync.django import get_client
print(get_client.__module__)
"""
    )
    assert written.splitlines() == ["[]", "[]", "runtimeuse_sync.django._clients"]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    written = in_a_child(
        """
import sys
sys.modules["django"] = None
try:
    from runtimeuse_sync.django import get_client
except ImportError as error:
    print(error)
"""
    )
    assert "runtimeuse-sync[django]" in written


def test_there_are_no_other_names() -> None:
    import runtimeuse_sync.django as app

    with pytest.raises(AttributeError, match="get_clients"):
        app.get_clients  # type: ignore[attr-defined]  # noqa: B018
