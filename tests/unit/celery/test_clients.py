"""The client of a worker process: from which settings, how many, and what is said of settings that are wrong."""

from __future__ import annotations

import os
import sys
import threading
import types
from typing import Any, Dict, List, Mapping, Optional

import pytest
from celery import Celery

from runtimeuse_sync import QueryOptions
from runtimeuse_sync.celery import RuntimeTask
from runtimeuse_sync.testing import FakeRuntime, assistant_message, text_result

from ...support.processes import CHILD_LIMIT
from .bench import Bench


def own_client(task: Any) -> Any:
    return task.client


def ask(self: Any) -> str:
    text: str = self.client.query("hi").text
    return text


def test_all_tasks_of_an_application_share_one_client(bench: Bench) -> None:
    first, second = bench.task(own_client), bench.task(own_client)
    assert first.client is second.client is first.client


def test_applications_have_clients_of_their_own(bench: Bench) -> None:
    with Bench() as other:
        assert bench.task(own_client).client is not other.task(own_client).client


def test_nothing_is_made_before_a_task_asks(bench: Bench) -> None:
    bench.app.conf.runtimeuse = {"ws_url": 8080}
    task = bench.task(own_client)
    with pytest.raises(TypeError):
        _ = task.client


def test_settings_of_a_task_take_precedence(bench: Bench) -> None:
    bench.fake.answer_all(lambda request: text_result(request["model"] + request["system_prompt"]))
    bench.app.conf.runtimeuse = {"transport": bench.fake, "model": "general", "system_prompt": "!"}
    task = bench.task(ask, runtimeuse={"model": "own"})
    assert bench.execute(task).get() == "own!"
    assert bench.execute(bench.task(ask)).get() == "general!"


def test_settings_that_a_function_returns(bench: Bench) -> None:
    """It is called by the first task, in the worker's process; what it returns is not part of the configuration."""
    called = []

    def settings() -> Dict[str, Any]:
        called.append(True)
        return {"transport": bench.fake, "model": "any"}

    bench.app.conf.runtimeuse = settings
    task = bench.task(ask)
    assert called == []
    for _ in range(2):
        bench.fake.expect("4")
        assert bench.execute(task).get() == "4"
    assert called == [True]
    assert "transport" not in str(bench.app.conf.table()["runtimeuse"])


def test_settings_of_a_base_class(bench: Bench) -> None:
    settings = {"model": "small"}

    class Small(RuntimeTask):
        abstract = True
        runtimeuse: Optional[Mapping[str, Any]] = settings

    bench.fake.answer_all(lambda request: text_result(request["model"]))
    assert bench.execute(bench.task(ask, base=Small)).get() == "small"


def test_settings_from_a_module_with_a_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Django's projects have them."""
    settings = types.ModuleType("settings_of_a_project")
    vars(settings)["CELERY_RUNTIMEUSE"] = {"ws_url": "ws://127.0.0.1:1", "model": "m"}
    vars(settings)["CELERY_BROKER_URL"] = "memory://"
    monkeypatch.setitem(sys.modules, settings.__name__, settings)
    app = Celery("namespace", set_as_current=False)
    app.config_from_object(settings.__name__, namespace="CELERY")
    task = app.task(base=RuntimeTask, bind=True, shared=False, name="any")(own_client)
    assert repr(task.client) == "TaskClient('ws://127.0.0.1:1')"
    app.close()


def test_without_a_setting_the_url_is_the_environments(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.app.conf.runtimeuse = None
    monkeypatch.setenv("RUNTIMEUSE_WS_URL", "ws://127.0.0.1:1")
    assert repr(bench.task(own_client).client) == "TaskClient('ws://127.0.0.1:1')"


def test_other_settings_make_another_client(bench: Bench) -> None:
    task = bench.task(own_client)
    before = task.client
    bench.app.conf.runtimeuse = {"ws_url": "ws://127.0.0.1:2"}
    assert repr(task.client) == "TaskClient('ws://127.0.0.1:2')"
    assert task.client is task.client is not before


def test_a_process_that_was_forked_makes_its_own(bench: Bench) -> None:
    task = bench.task(own_client)
    inherited = task.client
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        own = task.client
        os.write(write, b"own" if own is not inherited and task.client is own else b"not")
        os._exit(0)
    os.close(write)
    told = os.read(read, 10)
    os.close(read)
    os.waitpid(child, 0)
    assert told == b"own"
    assert task.client is inherited


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        (
            "ws://x",
            TypeError,
            "Celery's setting runtimeuse must be a dict of .* or a function that returns one, not str",
        ),
        (lambda: "ws://x", TypeError, "Celery's setting runtimeuse must be a dict .*not str"),
        ({"url": "ws://x"}, TypeError, "Celery's setting runtimeuse: .*unknown argument 'url'"),
        ({"ws_url": "http//x"}, ValueError, "Celery's setting runtimeuse: ws_url"),
        ({"ws_url": "ws://x", "timeout": -1}, ValueError, "Celery's setting runtimeuse: timeout"),
        ({"ws_url": "ws://x", "timeout": "1"}, TypeError, "Celery's setting runtimeuse: timeout"),
        (None, ValueError, "Celery's setting runtimeuse: Either ws_url or transport must be provided"),
    ],
)
def test_wrong_settings(bench: Bench, monkeypatch: pytest.MonkeyPatch, settings: Any, error: Any, text: str) -> None:
    monkeypatch.delenv("RUNTIMEUSE_WS_URL", raising=False)
    bench.app.conf.runtimeuse = settings
    with pytest.raises(error, match=text):
        _ = bench.task(own_client).client


def test_wrong_settings_of_a_task_are_named(bench: Bench) -> None:
    task = bench.task(own_client, name="mine", runtimeuse={"modell": "x"})
    text = "Celery's setting runtimeuse and the attribute runtimeuse of the task mine: .*did you mean model"
    with pytest.raises(TypeError, match=text):
        _ = task.client


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"runtimeuse": "ws://x"}, TypeError, "runtimeuse must be a dict"),
        ({"repeatable": "yes"}, TypeError, "repeatable must be a bool"),
        ({"progress_interval": "1"}, TypeError, "progress_interval must be a number of seconds or None"),
        ({"progress_interval": 0}, ValueError, "progress_interval must be more than 0 seconds"),
        ({"abort_poll_interval": -1}, ValueError, "abort_poll_interval must be more than 0 seconds"),
    ],
)
def test_wrong_attributes_of_a_task(options: Dict[str, Any], error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        type("Wrong", (RuntimeTask,), options)


def test_without_celery_the_extra_is_named() -> None:
    import subprocess

    code = (
        "import sys; sys.modules['celery.contrib.abortable'] = None\n"
        "try: import runtimeuse_sync.celery\n"
        "except ImportError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=CHILD_LIMIT)
    assert 'pip install "runtimeuse-sync[celery]"' in ran.stdout, ran.stderr


def test_messages_are_counted_in_the_tasks_own_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a timeout for the callback, of which there is none."""
    fake = FakeRuntime([[assistant_message("one"), *text_result("4")]])
    bench.app.conf.runtimeuse = {"transport": fake, "model": "any", "assistant_callback_timeout": 60}
    threads: List[str] = []

    start = threading.Thread.start

    def note(thread: threading.Thread) -> None:
        threads.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note)
    assert bench.execute(bench.task(ask)).get() == "4"
    assert threads
    assert [name for name in threads if "callback" in name] == []


def test_a_call_in_a_task_leaves_its_options_as_they_are(bench: Bench) -> None:
    fake = FakeRuntime([text_result("4")])
    bench.app.conf.runtimeuse = {"transport": fake, "model": "any"}
    options = QueryOptions(assistant_callback_timeout=3.0)

    def ask_with_options(self: Any) -> str:
        text: str = self.client.query("hi", options).text
        return text

    task = bench.task(ask_with_options)
    assert bench.execute(task).get() == "4"
    assert options == QueryOptions(assistant_callback_timeout=3.0)


def test_all_tasks_of_an_application_may_be_of_this_class() -> None:
    """Celery's own ones then are, too."""
    fake = FakeRuntime([text_result("4")])
    app = Celery(
        "all",
        broker="memory://",
        backend="cache+memory://",
        task_cls="runtimeuse_sync.celery:RuntimeTask",
        set_as_current=False,
    )
    app.conf.update(runtimeuse={"transport": fake, "model": "any"}, task_always_eager=True)
    task = app.task(bind=True, shared=False, name="any")(ask)
    assert isinstance(task, RuntimeTask)
    assert task.delay().get() == "4"
    assert "celery.chord" in app.tasks
    assert app.tasks["celery.map"].delay({"task": "any", "args": [], "kwargs": {}}, []).get() == []
    app.close()
