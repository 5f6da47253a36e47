"""Whatever an agent returns or raises, its request has a terminal message, and its session is free."""

from __future__ import annotations

import asyncio
import errno
import threading
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple

import pytest

from runtimeuse_sync.runtime import AsyncSender, Invocation, RequestFailedError, Sender

from .conftest import Connect


class NoText(Exception):
    def __str__(self) -> str:
        return str(self.args[1])


class ExitingText(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class InterruptingText(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class NoneForText(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]  # noqa: PLE0307


class NoCause(Exception):
    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise LookupError("no cause")


class OddCause(Exception):
    __cause__ = "not an exception"  # type: ignore[assignment]


class NoArguments(OSError):
    @property
    def args(self) -> Tuple[Any, ...]:  # type: ignore[override]
        raise LookupError("no arguments")

    @property
    def errno(self) -> int:  # type: ignore[override]
        raise LookupError("no number")


class NoDetails(RequestFailedError):
    def __init__(self) -> None:
        Exception.__init__(self, "as expected")

    @property
    def details(self) -> str:  # type: ignore[override]
        raise LookupError("no details")


class TextOfItsOwn(str):
    def replace(self, *_: Any) -> str:
        raise LookupError("not replaced")

    def find(self, *_: Any) -> int:
        raise LookupError("not found")

    def encode(self, *_: Any) -> bytes:
        raise LookupError("not encoded")


class NoItems(Dict[str, Any]):
    def items(self) -> Any:
        raise SystemExit(4)


class NoKeys(Mapping[str, Any]):
    def __getitem__(self, _: str) -> Any:
        raise KeyboardInterrupt

    def __iter__(self) -> Iterator[str]:
        raise KeyboardInterrupt

    def __len__(self) -> int:
        return 1


def with_odd_cause() -> Exception:
    error = ValueError("outer")
    error.__cause__ = NoText("x")
    return error


def chained_to_itself() -> Exception:
    error = ValueError("a ring")
    error.__context__ = another = ValueError("of two")
    another.__cause__ = error
    return error


def cyclic() -> Dict[str, Any]:
    value: Dict[str, Any] = {}
    value["self"] = value
    return value


def too_deep() -> Dict[str, Any]:
    value: Dict[str, Any] = {}
    for _ in range(100_000):
        value = {"in": value}
    return value


RAISED: List[Tuple[Callable[[], BaseException], str]] = [
    (lambda: NoText("x"), "NoText"),
    (lambda: ExitingText("x"), "ExitingText"),
    (lambda: InterruptingText("x"), "InterruptingText"),
    (lambda: NoneForText("x"), "NoneForText"),
    (lambda: NoCause("x"), "x"),
    (lambda: OddCause("x"), "x"),
    (lambda: NoArguments(errno.EPERM, "x"), "x"),
    (NoDetails, "as expected"),
    (with_odd_cause, "outer"),
    (chained_to_itself, "a ring"),
    (lambda: ValueError(TextOfItsOwn("odd")), "odd"),
    (lambda: ValueError("\ud800"), "\ud800"),
    (lambda: SyntaxError("x", ("file", "one", None, 3)), "x"),  # type: ignore[arg-type]
    (lambda: SystemExit(5), "5"),
    (lambda: KeyboardInterrupt("stop"), "stop"),
    (lambda: GeneratorExit("gone"), "gone"),
    (lambda: StopIteration("over"), "over"),
    (lambda: StopAsyncIteration("over"), "over"),
    (lambda: asyncio.CancelledError("mine"), ""),
    (lambda: BaseException("anything"), "anything"),
    (lambda: MemoryError("full"), "full"),
    (lambda: RecursionError("deep"), "deep"),
]

RETURNED: List[Callable[[], Any]] = [
    cyclic,
    too_deep,
    lambda: {"not a number": float("nan")},
    lambda: {("a", "pair"): 1},
    lambda: {"bytes": b"x"},
    lambda: {"set": {1}},
    lambda: NoItems(x=1),
    lambda: ("text", NoKeys()),
    lambda: ("text", {"metadata": cyclic()}),
    lambda: ("text", {"metadata": float("inf")}),
    lambda: ("text", {b"bytes": 1}),
    lambda: object(),
]


def agents(made: Callable[[], Any], raised: bool) -> List[Any]:
    """Returns a plain and an `async` agent that both return, or raise, what is made at each run."""

    def plain(invocation: Invocation, sender: Sender) -> Any:
        if raised:
            raise made()
        return made()

    async def asynchronous(invocation: Invocation, sender: AsyncSender) -> Any:
        if raised:
            raise made()
        return made()

    return [plain, asynchronous]


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
@pytest.mark.parametrize(("made", "said"), RAISED, ids=[f"{at}" for at in range(len(RAISED))])
@pytest.mark.parametrize("secrets", [[], ["s3cret"]])
def test_whatever_is_raised(
    talk: Connect, made: Callable[[], BaseException], said: str, kind: int, secrets: List[str]
) -> None:
    wire = talk(agents(made, raised=True)[kind])
    [terminal] = wire.query(secrets_to_redact=secrets)
    assert terminal["message_type"] == "error_message"
    assert terminal["error"]
    assert said in terminal["error"] or isinstance(made(), (StopIteration, StopAsyncIteration))
    wire.assert_idle()


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
@pytest.mark.parametrize("made", RETURNED, ids=[f"{at}" for at in range(len(RETURNED))])
@pytest.mark.parametrize("secrets", [[], ["s3cret"]])
def test_whatever_is_returned(talk: Connect, made: Callable[[], Any], kind: int, secrets: List[str]) -> None:
    wire = talk(agents(made, raised=False)[kind])
    [terminal] = wire.query(secrets_to_redact=secrets)
    assert terminal["message_type"] == "error_message"
    assert terminal["error"]
    wire.assert_idle()


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
def test_strings_that_are_hardly_any_come_through(talk: Connect, kind: int) -> None:
    wire = talk(agents(lambda: {"half": "\ud800", "odd": TextOfItsOwn("odd"), 1: None}, raised=False)[kind])
    [terminal] = wire.query()
    assert terminal["data"]["structured_output"] == {"half": "\ud800", "odd": "odd", "1": None}
    wire.assert_idle()


class Changing(Dict[str, Any]):
    """Gets one more item as soon as somebody goes through it, as by another thread."""

    def items(self) -> Any:
        def changing() -> Iterator[Tuple[str, Any]]:
            for item in dict.items(self):
                self["one more"] = 1
                yield item

        return changing()


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
def test_a_result_that_changes_while_it_is_masked(talk: Connect, kind: int) -> None:
    wire = talk(agents(lambda: Changing(a=1, b=2), raised=False)[kind])
    [terminal] = wire.query(secrets_to_redact=["s3cret"])
    assert "changed size during iteration" in terminal["error"]
    wire.assert_idle()


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
def test_heartbeats_go_on_while_a_failure_is_put_into_words(talk: Connect, kind: int) -> None:
    let_go = threading.Event()

    class Slow(Exception):
        def __str__(self) -> str:
            assert let_go.wait(60)
            return "at last"

    wire = talk(agents(Slow, raised=True)[kind], heartbeat_interval=0.01)
    wire.send_query()
    try:
        for _ in range(3):
            assert wire.receive()["message_type"] == "heartbeat_message"
    finally:
        let_go.set()
    assert wire.receive_until()[-1]["error"] == "at last"
    wire.assert_idle()


def test_a_task_of_an_agent_that_asks_the_program_to_exit_ends_nothing_else(talk: Connect) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        leaving = asyncio.ensure_future(leave())
        await asyncio.wait({leaving})
        return type(leaving.exception()).__name__

    wire = talk(agent)
    assert wire.query()[0]["data"]["text"] == "SystemExit"
    assert wire.query()[0]["data"]["text"] == "SystemExit"
