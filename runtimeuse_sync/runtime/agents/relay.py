"""Passes an agent's messages from its threads to the event loop, in batches, and limits how many wait in between.

Switching to the loop and back for each message would cost more than sending the message.

Threads: any thread writes to a `Relay`. A task on the runtime's event loop, which runs only while there are messages,
forwards them to the outbox. A condition guards the waiting messages.
"""

import asyncio
import contextlib
import threading
from typing import Callable, List, Optional, Tuple

from ..outbox import ClientGoneError, Outbox

#: How far an agent may get ahead of its client before it has to wait, in bytes and in messages.
_AHEAD_BYTES = 512 * 1024
_AHEAD_MESSAGES = 512
#: After how many messages a task yields to the others of its loop.
_TURN_MESSAGES = 64


class Relay:
    """Forwards the messages of one run.

    Args:
        outbox: Sends the messages.
        loop: The event loop of the outbox.
    """

    def __init__(self, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        self._outbox = outbox
        self._loop = loop
        # Guards the attributes below; notified when there is space again.
        self._condition = threading.Condition()
        self._texts: List[bytes] = []
        # The futures of waiting tasks, each with its loop.
        self._waiting: List[Tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._ahead_bytes = 0
        self._ahead_messages = 0
        self._taken = 0
        self._forwarding = False
        # Creates the exception for messages after the end; each thread needs its own.
        self._end_reason: Optional[Callable[[], Exception]] = None
        # Only used on the loop.
        self._task: Optional[asyncio.Task[None]] = None

    def send(self, text: bytes) -> None:
        """Passes on an encoded message; blocks while the client is too far behind. For any thread but the loop's.

        Raises:
            ConnectionError: the client is gone, or the runtime has stopped.
            RuntimeError: the run has ended.
        """
        with self._condition:
            while not self._try_take(text):
                self._condition.wait()

    async def send_from_task(self, text: bytes) -> None:
        """Passes on an encoded message from a task on another loop; waits while the client is too far behind.

        Raises:
            ConnectionError: the client is gone, or the runtime has stopped.
            RuntimeError: the run has ended.
        """
        loop = asyncio.get_running_loop()
        while True:
            with self._condition:
                if self._try_take(text):
                    break
                room = loop.create_future()
                self._waiting.append((loop, room))
            await room
        if self._taken % _TURN_MESSAGES == 0:
            # A task that never has to wait must yield to the other tasks of its loop, and to its own cancel.
            await asyncio.sleep(0)

    def _try_take(self, text: bytes) -> bool:
        """Takes a message if there is space for it; the caller holds the condition.

        Raises:
            ConnectionError: the client is gone, or the runtime has stopped.
            RuntimeError: the run has ended.
        """
        if self._outbox.client_is_gone:
            raise ClientGoneError
        if self._end_reason is not None:
            raise self._end_reason()
        if self._ahead_bytes >= _AHEAD_BYTES or self._ahead_messages >= _AHEAD_MESSAGES:
            return False
        if not self._forwarding:
            try:
                self._loop.call_soon_threadsafe(self._start)
            except RuntimeError:
                self._end(_stopped)
                raise _stopped() from None
            self._forwarding = True
        self._texts.append(text)
        self._ahead_bytes += len(text)
        self._ahead_messages += 1
        self._taken += 1
        return True

    async def close(self) -> None:
        """Refuses further messages; returns when those that were taken have been sent."""
        with self._condition:
            texts, self._texts = self._texts, []
        self._end(_closed)
        # This keeps the order: the task writes the messages that it has taken before it waits.
        try:
            for text in texts:
                self._outbox.write(text)
        except ClientGoneError:
            return
        finally:
            if self._task is not None:
                await asyncio.wait({self._task})

    def _start(self) -> None:
        self._task = asyncio.ensure_future(self._forward())

    async def _forward(self) -> None:
        try:
            while True:
                with self._condition:
                    texts, self._texts = self._texts, []
                    if not texts:
                        self._forwarding = False
                        return
                for text in texts:
                    self._outbox.write(text)
                await self._outbox.drained()
                with self._condition:
                    self._ahead_bytes -= sum(map(len, texts))
                    self._ahead_messages -= len(texts)
                    self._wake_all()
        except ClientGoneError:
            self._end(ClientGoneError)
        except asyncio.CancelledError:
            self._end(_stopped)
            raise

    def _end(self, reason: Callable[[], Exception]) -> None:
        with self._condition:
            if self._end_reason is None:
                self._end_reason = reason
            self._wake_all()

    def _wake_all(self) -> None:
        """Wakes all waiting threads and tasks, which try again; the caller holds the condition."""
        self._condition.notify_all()
        waiting, self._waiting = self._waiting, []
        for loop, room in waiting:
            with contextlib.suppress(RuntimeError):  # that loop has closed, and its tasks have ended
                loop.call_soon_threadsafe(_set, room)


def _set(room: "asyncio.Future[None]") -> None:
    if not room.done():
        room.set_result(None)


def _closed() -> Exception:
    return RuntimeError("the run has ended: its sender sends nothing any more")


def _stopped() -> Exception:
    return ConnectionError("the runtime has stopped")
