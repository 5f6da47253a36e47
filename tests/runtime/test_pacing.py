"""How what is written to a client waits for its socket: uncopied, whole, and in its turn."""

from __future__ import annotations

import asyncio
from typing import Any, List

import pytest

from runtimeuse_sync.runtime.pacing import PacedTransport

SLICE = 256 * 1024
LARGE = bytes(range(256)) * 4096


class Below(asyncio.Transport):
    """A transport that takes so many writes, then pauses its protocol."""

    def __init__(self, takes: int) -> None:
        super().__init__()
        self.takes = takes
        self.done: List[Any] = []
        self.closing = False
        self.paced = PacedTransport(self)

    def write(self, data: Any) -> None:
        self.done.append(data)
        self.takes -= 1
        if self.takes == 0:
            self.paced.pause()

    def write_eof(self) -> None:
        self.done.append("eof")

    def close(self) -> None:
        self.done.append("close")

    def abort(self) -> None:
        self.done.append("abort")

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.done.append("pause_reading")

    def get_write_buffer_size(self) -> int:
        return 7

    def take(self, writes: int) -> bool:
        """Takes so many writes more; returns whether that is all there was."""
        self.takes = writes
        return self.paced.resume()


def joined(below: Below) -> bytes:
    return b"".join(bytes(data) for data in below.done)


def test_what_the_socket_takes_is_passed_on_as_it_is() -> None:
    below = Below(9)
    below.paced.write(b"small")
    assert below.done[0] == b"small"
    below.paced.write(LARGE)
    assert [len(data) for data in below.done[1:]] == [SLICE] * 4
    assert all(data.obj is LARGE for data in below.done[1:])
    assert joined(below) == b"small" + LARGE


def test_the_rest_waits_in_its_order() -> None:
    below = Below(2)
    below.paced.write(LARGE)
    below.paced.write(b"pong")
    assert len(below.done) == 2
    assert below.paced.get_write_buffer_size() == len(LARGE) - 2 * SLICE + 4 + 7
    assert not below.take(1)
    below.paced.write(b"more")
    assert not below.take(2)
    assert below.take(9)
    assert joined(below) == LARGE + b"pong" + b"more"
    assert below.paced.get_write_buffer_size() == 7


@pytest.mark.parametrize(("end", "does"), [("write_eof", ["eof"]), ("close", ["close"])])
def test_the_end_comes_last(end: str, does: List[str]) -> None:
    async def main() -> None:
        below = Below(1)
        below.paced.write(LARGE)
        getattr(below.paced, end)()
        assert below.paced.is_closing() == (end == "close")
        assert below.take(9)
        # asyncio's transport calls in the middle of a write: if it were ended there, it would close a second time.
        assert "eof" not in below.done
        assert "close" not in below.done
        await asyncio.sleep(0)
        assert below.done[-1:] == does
        at_once = Below(1)
        getattr(at_once.paced, end)()
        assert at_once.done == does

    asyncio.run(main())


@pytest.mark.parametrize("how", ["lose", "abort", "closing"])
def test_what_waits_for_a_client_that_has_gone_is_dropped(how: str) -> None:
    below = Below(1)
    below.paced.write(LARGE)
    if how == "closing":
        below.closing = True
    else:
        getattr(below.paced, how)()
    assert below.take(9)
    assert [data for data in below.done[1:] if data != "abort"] == []
    assert below.paced.get_write_buffer_size() == 7
