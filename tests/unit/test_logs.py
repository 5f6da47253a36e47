"""What a call logs: one record when it begins, one when it ends, and no content."""

from __future__ import annotations

import logging
import threading
from typing import Any, Callable, List, Tuple

import pytest

from runtimeuse_sync import AgentRuntimeError, QueryOptions, RuntimeUseClient, _logs
from runtimeuse_sync.errors import ConnectionLostError, RuntimeConnectionError, RunTimeoutError
from runtimeuse_sync.testing import HANG, FakeRuntime, assistant_message, error, text_result

from ..support.builders import SOON
from ..support.servers import PATIENCE, free_port
from ..support.threads import InThread, when
from ..support.transports import answering, make_client

PROMPT, ANSWER = "a prompt that nobody shall read", "an answer that nobody shall read"


class Recorder:
    """A logger that only looks like one."""

    def __init__(self) -> None:
        self.records: List[Tuple[str, str]] = []
        self.threads: List[str] = []

    def _log(self, level: str, message: str) -> None:
        self.records.append((level, message))
        self.threads.append(threading.current_thread().name)

    def debug(self, message: str) -> None: ...

    def info(self, message: str) -> None:
        self._log("INFO", message)

    def warning(self, message: str) -> None:
        self._log("WARNING", message)


def until_all_is_written() -> None:
    """Waits for the records: a call waits for them itself, but not for long."""
    when(lambda: not any(thread.name == "runtimeuse-log" for thread in threading.enumerate()))


def check(records: List[Tuple[str, str]], outcome: str, messages: int) -> None:
    until_all_is_written()
    (begin_level, begins), *warnings, (end_level, ends) = records
    assert (begin_level, begins) == ("INFO", "query begins (source_id=mine)")
    assert end_level == "INFO"
    assert ends.startswith(f"query ended with {outcome} after ")
    assert ends.endswith(f" s, {messages} messages (source_id=mine)")
    assert all(level == "WARNING" for level, _ in warnings)
    assert PROMPT not in str(records)
    assert ANSWER not in str(records)


@pytest.mark.parametrize("in_session", [False, True])
def test_a_result_and_errors(in_session: bool) -> None:
    replies = [
        [assistant_message(ANSWER), *text_result(ANSWER)],
        error(ANSWER),
        HANG,
    ]
    fake = FakeRuntime(replies)
    client = RuntimeUseClient(transport=fake, model="m")
    session = client.session().open() if in_session else None
    caller: Any = session or client
    for outcome, messages, raised in (
        ("a result", 2, None),
        ("AgentRuntimeError", 1, AgentRuntimeError),
        ("RunTimeoutError", 0, RunTimeoutError),
    ):
        logger = Recorder()
        if raised is None:
            caller.query(PROMPT, logger=logger, source_id="mine")
        else:
            with pytest.raises(raised):
                caller.query(
                    PROMPT, logger=logger, source_id="mine", timeout=0.2 if raised is RunTimeoutError else PATIENCE
                )
        check(logger.records, outcome, messages)
        assert len(logger.records) == 2
        # Logging holds locks: an interrupt of this thread must never find one held.
        assert set(logger.threads) == {"runtimeuse-log"}
    if session is not None:
        session.close()


def test_a_lost_connection_is_a_warning() -> None:
    logger = Recorder()
    with pytest.raises(ConnectionLostError):
        make_client(answering()).query(PROMPT, logger=logger, source_id="mine")
    check(logger.records, "ConnectionLostError", 0)
    assert [message for level, message in logger.records if level == "WARNING"] == [
        "the connection to function was lost (query): the runtime closed it (source_id=mine)"
    ]


def test_a_connection_that_is_refused_is_an_end() -> None:
    logger = Recorder()
    with free_port() as port, pytest.raises(RuntimeConnectionError):
        RuntimeUseClient(f"ws://127.0.0.1:{port}/?token=hunter2-hunter2", connect_timeout=SOON).query(
            PROMPT, model="m", logger=logger, source_id="mine"
        )
    check(logger.records, "RuntimeConnectionError", 0)
    retries = [message for level, message in logger.records if level == "WARNING"]
    assert retries[0].startswith(f"could not connect to ws://127.0.0.1:{port} (attempt 1), trying again: ")
    assert all("hunter2" not in message for message in retries)


def test_a_run_that_is_left() -> None:
    logger = Recorder()
    client = RuntimeUseClient(transport=FakeRuntime([HANG]), model="m")
    with client.stream(PROMPT, logger=logger, source_id="mine"):
        pass
    check(logger.records, "CancelledException", 0)


def test_a_logger_of_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "runtimeuse_sync"):
        RuntimeUseClient(transport=FakeRuntime([text_result(ANSWER)]), model="m").query(PROMPT)
        until_all_is_written()
    records = [record for record in caplog.records if record.name == "runtimeuse_sync"]
    assert [record.levelname for record in records] == ["INFO", "INFO"]
    assert "source_id=None" in records[0].getMessage()


def test_above_info_nothing_is_said_and_no_thread_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: List[str] = []
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    logger = logging.getLogger("runtimeuse_sync.quiet")
    logger.setLevel(logging.WARNING)
    RuntimeUseClient(transport=FakeRuntime([text_result(ANSWER)]), model="m").query(PROMPT, logger=logger)
    assert started
    assert "runtimeuse-log" not in started


def test_secrets_stay_out_of_the_source_id() -> None:
    logger = Recorder()
    client = RuntimeUseClient(transport=FakeRuntime([text_result(ANSWER)]), model="m")
    client.query(PROMPT, logger=logger, source_id="run of hunter2-hunter2", secrets_to_redact=["hunter2-hunter2"])
    until_all_is_written()
    assert "hunter2" not in str(logger.records)


def test_a_logger_that_raises_costs_no_call(capfd: pytest.CaptureFixture[str]) -> None:
    class Raising(Recorder):
        def _log(self, level: str, message: str) -> None:
            raise OSError("disk full")

    client = RuntimeUseClient(transport=FakeRuntime([text_result(ANSWER)]), model="m")
    assert client.query(PROMPT, QueryOptions(logger=Raising())).text == ANSWER
    until_all_is_written()
    assert "disk full" in capfd.readouterr().err


def test_a_record_that_cannot_be_written_holds_nobody_up_for_long() -> None:
    go_on = threading.Event()

    class Stuck(Recorder):
        def _log(self, level: str, message: str) -> None:
            go_on.wait(10 * PATIENCE)

    client = RuntimeUseClient(transport=FakeRuntime([text_result(ANSWER)]), model="m")
    assert client.query(PROMPT, logger=Stuck(), timeout=PATIENCE).text == ANSWER
    go_on.set()


class Handler(logging.Handler):
    """Does this with each record."""

    def __init__(self, do: Callable[[], Any]) -> None:
        super().__init__()
        self.records: List[Tuple[str, str]] = []
        self._do = do

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((threading.current_thread().name, record.getMessage()))
        self._do()


def logger_with(handler: logging.Handler, level: int) -> logging.Logger:
    logger = logging.Logger("of a test", level)  # noqa: LOG001  # nobody else shall have it
    logger.addHandler(handler)
    return logger


def test_no_thread_of_a_connection_waits_for_a_handler() -> None:
    """Else a handler that takes its time, or waits for a lock of the caller's, would end calls late, or never."""
    handler = Handler(lambda: None)
    logger = logger_with(handler, logging.DEBUG)
    RuntimeUseClient(transport=FakeRuntime([text_result(ANSWER)]), model="m").query(PROMPT, logger=logger)
    with free_port() as port, pytest.raises(RunTimeoutError):
        RuntimeUseClient(f"ws://127.0.0.1:{port}").query(PROMPT, model="m", logger=logger, timeout=SOON)
    until_all_is_written()
    said = [message.split(" ")[1] for _, message in handler.records]
    assert said[:4] == ["begins", "sent", "ended", "begins"]
    assert set(said[4:-1]) == {"not"}
    assert said[-1] == "ended"
    assert {thread for thread, _ in handler.records} == {"runtimeuse-log"}


def test_a_handler_may_wait_for_what_the_caller_holds() -> None:
    held = threading.Lock()

    def wait() -> None:
        with held:
            pass

    with free_port() as port:
        client = RuntimeUseClient(f"ws://127.0.0.1:{port}", connect_timeout=0.5, model="m")

        def call() -> None:
            with held:
                client.query(PROMPT, logger=logger_with(Handler(wait), logging.DEBUG))

        assert isinstance(InThread(call).error(), RuntimeConnectionError)
    until_all_is_written()


def test_a_handler_may_call_the_client() -> None:
    """What it calls logs nothing: that would be told to it, too, and so on."""

    def call() -> None:
        if len(handler.records) < 10:
            assert client.query(PROMPT, logger=logger).text == ANSWER

    handler = Handler(call)
    logger = logger_with(handler, logging.INFO)
    client = RuntimeUseClient(transport=FakeRuntime([text_result(ANSWER)] * 10), model="m")
    assert client.query(PROMPT, logger=logger).text == ANSWER
    until_all_is_written()
    assert len(handler.records) == 2


@pytest.mark.parametrize("in_session", [False, True])
def test_a_handler_may_call_a_client_that_cannot_connect(
    in_session: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def call() -> None:
        connect: Callable[[], Any] = client.session().open if in_session else lambda: client.query(PROMPT)
        with pytest.raises(RuntimeConnectionError):
            connect()

    handler = Handler(call)
    monkeypatch.setattr("runtimeuse_sync._logs.PACKAGE_LOGGER", logger_with(handler, logging.WARNING))
    with free_port() as port:
        client = RuntimeUseClient(f"ws://127.0.0.1:{port}", model="m", connect_timeout=1.0)
        assert isinstance(InThread(client.query, PROMPT).error(), RuntimeConnectionError)
        until_all_is_written()
    assert handler.records
    assert "Traceback" not in capfd.readouterr().err


def test_a_filter_that_raises_costs_no_call(capfd: pytest.CaptureFixture[str]) -> None:
    def refuse(_: logging.LogRecord) -> bool:
        raise OSError("no disk for filters")

    logger = logger_with(logging.NullHandler(), logging.DEBUG)
    logger.addFilter(refuse)
    client = RuntimeUseClient(transport=FakeRuntime([text_result(ANSWER)]), model="m")
    assert client.query(PROMPT, logger=logger).text == ANSWER
    until_all_is_written()
    assert capfd.readouterr().err.count("no disk for filters\n") == 3


def test_a_lost_connection_is_told_where_calls_are_not() -> None:
    handler = Handler(lambda: None)
    with pytest.raises(ConnectionLostError):
        make_client(answering()).query(PROMPT, logger=logger_with(handler, logging.WARNING), source_id="mine")
    until_all_is_written()
    lost = "the connection to function was lost (query): the runtime closed it (source_id=mine)"
    assert handler.records == [("runtimeuse-log", lost)]


def test_an_end_that_is_repeated_waits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    logger = logger_with(Handler(lambda: go_on.wait(10 * PATIENCE)), logging.INFO)
    log = _logs.CallLog(logger, "query", "mine")
    monkeypatch.setattr(_logs, "_PATIENCE", 0.01)
    log.begin([])
    log.end(None, 0)
    waits: List[float] = []
    monkeypatch.setattr(_logs, "join_thread", lambda _, seconds: waits.append(seconds))
    log.end(None, 0)
    go_on.set()
    until_all_is_written()
    assert [seconds <= 0 for seconds in waits] == [True]


def test_a_record_whose_start_was_interrupted_keeps_no_other_from_being_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = Handler(lambda: None)
    logger = logger_with(handler, logging.INFO)
    records = _logs.Records(logger)
    # As far as an interrupted `Thread.start` comes: it has a number, and has not run.
    monkeypatch.setattr(records.thread(lambda: logger.info("the first")), "_ident", 1)
    records.write(logger.info, "the second")
    until_all_is_written()
    assert handler.records == [("runtimeuse-log", "the second")]
    assert "Traceback" not in capfd.readouterr().err
