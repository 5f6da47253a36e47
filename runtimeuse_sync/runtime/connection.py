"""Serves one connection: receives the client's messages, runs one request at a time, and ends the session in order.

Threads: everything runs on the runtime's event loop. The task that `websockets` starts per connection runs
`ClientConnection.run`, which only reads. Each request has tasks of its own (`request_run.py`), and so has the end of
the session: both wait for upload responses, which the reading task receives.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Dict, Optional, Set, Union

from .._wire.fixed_texts import BUSY_ERROR
from .artifacts.watcher import Artifacts
from .failures import RequestFailedError, error_message
from .masking import RedactingLogger
from .outbox import ClientGoneError, Outbox
from .parsing import REQUEST_TYPES, MalformedMessageError, decode, parse_request, parse_upload_response
from .request_run import RequestRun, RuntimeParts

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

_logger = logging.getLogger("runtimeuse_sync.runtime")

#: How many refusals may be queued for a client that does not read. Beyond that, its messages are not read either.
_UNREAD_REFUSALS = 100
#: How long a client may accept no bytes while the runtime stops, in seconds. After that its connection is aborted.
_STALLED = 1.0
#: The close code for an internal error (RFC 6455 §7.4.1).
_INTERNAL_ERROR = 1011


class ClientConnection:
    """The runtime's side of one connection."""

    def __init__(self, connection: "ServerConnection", parts: RuntimeParts) -> None:
        self._connection = connection
        self._parts = parts
        self._log = RedactingLogger(_logger)
        self._outbox = Outbox(connection)
        self._artifacts = Artifacts(parts.settings, parts.workers, self._outbox, self._log)
        self._in_flight: Optional[RequestRun] = None
        # The tasks of requests. A finished request may still be sending its terminal message to a slow client.
        self._serving: Set[asyncio.Task[None]] = set()
        self._ending: Optional[asyncio.Task[None]] = None
        self._unread_refusals = 0
        self._stopping = False
        self._closing = False

    async def run(self) -> None:
        """Serves the connection; returns when it has closed and all its tasks have ended."""
        from websockets.exceptions import ConnectionClosed

        try:
            async for raw in self._connection:
                await self._take(raw)
        except (ConnectionClosed, ClientGoneError):
            self._log.debug("A client left without a closing handshake")
        finally:
            await self._close()

    async def stop(self, deadline: float) -> None:
        """Ends the session because the runtime stops: cancels the request in flight, reports that, and closes.

        The connection of a client that accepts no bytes is aborted.

        Args:
            deadline: When to stop waiting for the request in flight, in seconds on the loop's clock. The client gets
                its terminal message in any case.
        """
        self._stopping = True
        if self._ending is not None:
            self._ending.cancel()
        self._cancel()
        announcing = asyncio.ensure_future(self._announce_stop(deadline))
        while not announcing.done():
            unsent = self._outbox.unsent
            await asyncio.wait({announcing}, timeout=_STALLED)
            if (self._outbox.pushed_back or self._closing) and self._outbox.unsent == unsent:
                self._connection.transport.abort()  # the client does not read

    async def _announce_stop(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        if self._serving:
            await asyncio.wait(set(self._serving), timeout=max(0.0, deadline - loop.time()))
        if self._in_flight is not None:
            self._in_flight.give_up()
        await self._all_served()
        aborting = asyncio.ensure_future(self._artifacts.abort())
        await asyncio.wait({aborting}, timeout=max(_STALLED, deadline - loop.time()))
        self._closing = True
        await self._outbox.close(1001, "the runtime stops")

    async def _take(self, raw: Union[str, bytes]) -> None:
        try:
            message = decode(raw)
        except MalformedMessageError as error:
            await self._refuse(error)
            return
        kind = message["message_type"]
        if kind in REQUEST_TYPES:
            await self._begin(message)
        elif kind == "cancel_message":
            self._cancel()
        elif kind == "artifact_upload_response_message":
            self._answer(message)
        elif kind == "end_session_message":
            if self._ending is None:
                self._ending = asyncio.ensure_future(self._end())
        else:
            self._log.debug("Ignored a message of an unknown type")

    async def _begin(self, message: Dict[str, Any]) -> None:
        if self._in_flight is not None:
            await self._refuse(RequestFailedError(BUSY_ERROR))
            return
        if self._ending is not None or self._stopping:
            await self._refuse(RequestFailedError("Received request while the session is ending!"))
            return
        try:
            request = parse_request(message)
        except MalformedMessageError as error:
            await self._refuse(error)
            return
        self._in_flight = run = RequestRun(request, self._parts, self._outbox, self._artifacts, self._log)

        def done() -> None:
            self._in_flight = None

        task = asyncio.ensure_future(run.serve(done))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def _cancel(self) -> None:
        if self._in_flight is not None:
            self._in_flight.cancel()

    def _answer(self, message: Dict[str, Any]) -> None:
        try:
            response = parse_upload_response(message)
        except MalformedMessageError as error:
            # Without an `error_message`, which the client would take for the answer to the request in flight.
            self._log.warning("Ignored an upload response: %s", error)
            return
        self._artifacts.answer(response)

    async def _refuse(self, error: Exception) -> None:
        refused = error if isinstance(error, RequestFailedError) else RequestFailedError(str(error))
        self._outbox.post(error_message(refused, self._outbox.redactor))
        # Do not wait for a slow client here: its next message may be a cancel. But bound the memory for refusals to a
        # client that sends without end and never reads.
        self._unread_refusals = self._unread_refusals + 1 if self._outbox.pushed_back else 0
        if self._unread_refusals > _UNREAD_REFUSALS:
            await self._outbox.drained()

    async def _end(self) -> None:
        try:
            await self._all_served()
            lost = await self._artifacts.finish()
            if not lost:
                await self._outbox.send({"message_type": "end_session_confirm_message"})
        except ClientGoneError:
            return
        except Exception as error:
            self._log.exception("The end of a session failed")
            lost = f"the end of the session failed: {type(error).__name__}"
        # Confirm only if no file is missing: without the confirmation, the client reports the lost files.
        await (self._outbox.close(_INTERNAL_ERROR, lost) if lost else self._outbox.close())

    async def _all_served(self) -> None:
        if self._serving:
            await asyncio.wait(set(self._serving))

    async def _close(self) -> None:
        self._cancel()
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.wait({self._ending})
        await self._all_served()
        if self._stopping:
            await self._artifacts.abort()
        else:
            await self._artifacts.leave()
