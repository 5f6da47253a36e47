"""The channel of a session that opens a new connection in place of one that is gone.

The runtime keeps nothing for a connection but its request in flight and the directories that it watches for artifacts;
files and processes belong to the sandbox. So a call may go on over a new connection, if three things hold:
    - nothing of its request was sent: the connection's thread has not taken it, and it is withdrawn now (`Outgoing`).
      No request is ever sent twice;
    - no request that was sent has asked for artifacts: the runtime could still have announced some;
    - the session has not ended, nor begun to.

The new connection replaces the old one in the channel, and with it all that belongs to the requests on it. The queue of
callers stays, and so do the secrets to mask.

States of the connection: open → gone → opening → open; or opening → gone again, if it cannot be opened or the caller
gives up, and then the next call tries. The first connection of a session is not replaced if it cannot be opened.

Threads: all runs in the thread of the caller that has the turn; its waits end by the call's deadline and by `abort`.
Any thread may close the session meanwhile. The new connection is the channel's before its thread starts, so whoever
closes the session finds it; and its maker looks, after that, whether the session has been closed (`Channel.closed`).

Interrupts: what belongs to a connection that is gone does not matter any more, so its replacement may be interrupted
between any two steps, and repeated by the next call. The new connection takes its place last, and is closed for good if
its opening is interrupted.
"""

from typing import Callable, List, Optional

from .._call import Call
from .._connection.base import Connection, Outgoing
from .._connection.closed import ConnectionClosed, Ending
from .._connection.inbox import Batch
from .._interrupts import undone_on_failure
from .._logs import Logger
from .._wire.redaction import in_any_form, scrub
from ..errors import ConnectionLostError, ProtocolError, SessionStateError
from .channel import Channel
from .turns import Ticket

#: Seconds to wait before each attempt of one call. Only a runtime that accepts a connection and hangs up before the
#: request is sent causes more than one; a runtime that is not up is waited for within one (`connect_timeout`).
PAUSES = (0.0, 0.05, 0.2, 0.5, 1.0)


class ReconnectingChannel(Channel):
    """A channel that replaces its connection if that is gone before anything of a call's request was sent.

    Args:
        connection, origin, secrets, logger: As for a `Channel`.
        make_connection: Makes a new connection, not started.
    """

    def __init__(
        self,
        connection: Connection,
        origin: str,
        secrets: List[str],
        logger: Logger,
        make_connection: Callable[[], Connection],
    ) -> None:
        super().__init__(connection, origin, secrets, logger, persistent=True)
        self._make_connection = make_connection
        self._was_entered = False
        self._attempts = 0
        # The first request that was sent, or else the last one that was begun, since a call has asked for artifacts.
        self._asked_for_files: Optional[Outgoing] = None
        self._result_type = ""
        self._secrets_to_redact: List[str] = []

    # The caller's thread.

    def enter(self, call: Call, ticket: Ticket) -> None:
        """Waits for the turn, until there is an open connection, and until it is settled."""
        self.take_turn(call, ticket)
        self._attempts = 0
        while True:
            if self._may_reconnect(call):
                self._reconnect(call)
            try:
                self.wait_until_settled(call)
                break
            except (ConnectionLostError, ProtocolError) as error:
                if not call.is_own(error) or not self._may_reconnect(call):
                    raise
        self._was_entered = True

    def begin(self, call: Call, payload: bytes, result_type: str, secrets: List[str], logger: Logger) -> None:
        """Sends the request of the call that has the turn, as documented at `Channel`."""
        self._result_type, self._secrets_to_redact = result_type, secrets
        super().begin(call, payload, result_type, secrets, logger)

    def _made(self, request: Outgoing) -> None:
        asked = self._asked_for_files
        if self.uploads.options is not None and (asked is None or not asked.taken):
            self._asked_for_files = request

    def next_batch(self, call: Call, idle_until: float) -> Optional[Batch]:
        """Returns the first batch that has unused messages, as documented at `Channel`.

        The time that it takes to reconnect does not count as idle.
        """
        while True:
            try:
                return super().next_batch(call, idle_until)
            except (ConnectionLostError, ProtocolError) as error:
                if not call.is_own(error) or not self._may_reconnect(call):
                    raise
            began = call.now()
            self._reconnect(call)
            idle_until += call.now() - began

    @property
    def unusable(self) -> bool:
        """Whether the connection is closed, and no call will replace it."""
        return super().unusable and (self._files_may_come or self.ending or not self.connection.belongs_to_this_process)

    @property
    def _files_may_come(self) -> bool:
        """Whether the runtime may have artifacts of a request that it was sent, or has announced some."""
        asked, uploads = self._asked_for_files, self.uploads
        return bool(uploads.kept or uploads.failed) or (asked is not None and asked.taken)

    def _note(self, *, unsent: bool) -> str:
        if not unsent:
            return "; the request counts as sent, so it was not sent again"
        if self._files_may_come:
            return "; no new connection was opened, because artifacts of earlier calls could still have come"
        return ""

    def _may_reconnect(self, call: Call) -> bool:
        if not self._was_entered or not self.gone or self.ending or self._files_may_come:
            return False
        return self._attempts < len(PAUSES) and self.nothing_sent(call)

    def _reconnect(self, call: Call) -> None:
        """Replaces the connection, waits until the new one is open, and sends the call's request if it was begun.

        Raises as `wait_until_open`; the connection is gone then, and may be replaced again.
        """
        request, options = self._request, self.uploads.options
        connection = self._replacement(call)

        def open_it() -> None:
            self._replace_connection(connection, call)
            if self.closed:
                raise call.prepared(SessionStateError("the session is closed"))
            connection.start(call.wakeup)
            self.wait_until_open(call)

        def give_up() -> None:
            # Also if its thread was never started, or is in a custom transport's `connect`: the next call must see it.
            connection.fail(ConnectionClosed("given up while connecting again", Ending.NEVER_OPENED))
            connection.join(0.0 if call.aborted else call.deadline.remaining())

        undone_on_failure(open_it, give_up)
        if request is not None and request.request_of is call:
            self.uploads.options = options
            self.begin(call, request.payload, self._result_type, self._secrets_to_redact, self._logger)

    def _replacement(self, call: Call) -> Connection:
        """Returns a new connection, not started, once the threads of the one that is gone have ended."""
        until = call.now() + PAUSES[self._attempts]
        self._attempts += 1
        while call.now() < until:
            call.wait(until)
        call.check()
        gone = self.connection
        gone.close()
        gone.join(call.deadline.remaining())
        connection = self._make_connection()
        why = scrub(str(gone.inbox.closed), in_any_form(call.secrets))
        connection.replaces = f"the connection to {self._origin} was lost: {why}"
        return connection

    def _replace_connection(self, connection: Connection, call: Call) -> None:
        self._asked_for_files = None
        self._set_up(connection)
        self.connection = connection
        call.connection = connection
