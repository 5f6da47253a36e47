"""One execution of a task: what it has sent, whether it has to end, and how far it is.

    begun ──▶ in the task's function ──▶ left
                 │  a run asks it from time to time: cancelled, once
                 └  a run counts its messages, and notes what it sends

Each run that is made in the task asks the attempt, as its `cancel_when`, before it sends anything and then about twice
a second. The attempt then looks, in this order,

    - whether the task is revoked (`_worker`): the run is cancelled;
    - whether the worker of this process of a pool is gone, killed, say: the run is cancelled;
    - whether a time limit has passed that the pool does not keep: its exception comes out of the run;
    - whether the task is aborted, once in `abort_poll_interval` seconds: the run is cancelled;
    - whether to store the progress, once in `progress_interval` seconds.

The last two talk to the result backend. If that fails, it is logged, left for a while, and the run goes on.

A task may call another one directly, as a function: that is an attempt inside of the other, which tells the other of
its messages and of what it sends, and is cancelled with it.

When the task's function has ended, whatever it still has running, by `submit`, is aborted: nothing could end it later.

Threads: the task's own thread or greenlet begins and leaves the attempt. Runs that it submits to threads ask and count
in these. Each flag goes from `False` to `True` once; counts that two threads raise at once may lose one.
"""

import contextlib
import copy
import logging
import os
import sys
import weakref
from contextvars import ContextVar
from typing import Any, Callable, Iterator, List, Optional, Set

from billiard.process import current_process
from celery import states
from celery.backends.base import DisabledBackend
from celery.backends.rpc import RPCBackend
from celery.contrib.abortable import ABORTED
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from .._call import AskedByMany, Call, monotonic
from .._interrupts import raised_by_a_signal_handler, surely
from .._wire import validation as check
from .._wire.request import Request
from ..errors import AgentRuntimeError, CancelledException, ConnectionLostError, RuntimeConnectionError, RuntimeUseError
from ..options import CANCEL_POLL_INTERVAL
from ..run import Run
from ._results import mark_of

#: The state of a task that has stored its progress.
PROGRESS = "PROGRESS"

#: How the text of an error ends if a run was cancelled by what it asked.
_BY_CANCEL_WHEN = " by cancel_when"

_ABORTED = "the task was aborted"

#: For how many seconds to leave a result backend alone that has failed.
_PAUSE = 10.0

_logger = logging.getLogger("runtimeuse_sync.celery")

_current: "ContextVar[Optional[Attempt]]" = ContextVar("runtimeuse_sync.celery", default=None)

#: The attribute of Celery's context of an execution that holds its attempt.
_ATTRIBUTE = "_runtimeuse_attempt"


def current_attempt() -> "Optional[Attempt]":
    """Returns the attempt that this thread is in; `None` outside of tasks."""
    attempt = _current.get()
    return None if attempt is None or attempt.left else attempt


def attempt_of(context: Any) -> "Optional[Attempt]":
    """Returns the attempt of one of Celery's contexts of an execution, also when it has been left."""
    attempt = vars(context).get(_ATTRIBUTE)
    return attempt if isinstance(attempt, Attempt) else None


@contextlib.contextmanager
def attempted(task: Any) -> "Iterator[Attempt]":
    """Begins an attempt of a task, and leaves it at the end of the block; inside of the task's own one, goes on."""
    context = task.request
    attempt = attempt_of(context)
    if attempt is not None and not attempt.left:
        yield attempt  # A `run` that calls its base class's.
        return
    above = current_attempt()
    # What a worker begins is inside of nothing. An interrupt may have kept the last attempt there from being left.
    if not (context.called_directly or context.is_eager):
        above = None
    attempt = Attempt(task, context, above)
    vars(context)[_ATTRIBUTE] = attempt
    _current.set(attempt)
    try:
        yield attempt
    finally:
        surely(attempt.leave)
        _current.set(above)


def nothing_was_sent(error: RuntimeUseError) -> bool:
    """Returns whether an error says for certain that nothing of its request was sent."""
    if isinstance(error, AgentRuntimeError):
        metadata = error.metadata
        return isinstance(metadata, dict) and metadata.get("sent") is False
    return isinstance(error, RuntimeConnectionError) and not isinstance(error, ConnectionLostError)


def _request_here(task_id: Optional[str]) -> Any:
    """Returns Celery's request of a task that runs in the worker's main process; `None` for any other task."""
    # Imported by the worker; nobody else needs it.
    state = sys.modules.get("celery.worker.state")
    found = None if state is None or task_id is None else state.requests.get(task_id)
    # A process of a prefork pool inherits requests, whose flags nobody sets there.
    return found if getattr(found, "runtimeuse_process", None) == os.getpid() else None


def _worker_process() -> Optional[int]:
    """Returns the parent, in a process of a worker's pool; `None` in any other process, which may outlive its own."""
    return None if current_process().name == "MainProcess" else os.getppid()


class Attempt:
    """One execution of a task.

    Attributes:
        task: The task.
        left: Whether the task's function has ended.
        cancelled: Whether a run was told to cancel.
        why: Why that is, in words; `""` if none was.
        revoked: Whether that is because the task is revoked.
        messages: How many messages have come: texts of the agent, and chunks of output.
        latest: The agent's latest text; `None` if there is none.
    """

    def __init__(self, task: Any, context: Any, above: "Optional[Attempt]") -> None:
        self.task = task
        self.left = False
        self.cancelled = False
        self.why = ""
        self.revoked = False
        self.messages = 0
        self.latest: Optional[str] = None
        self._context = context
        self._above = above
        self._began = monotonic()
        # Calls of which nothing has been sent yet; empty for good once something has been.
        self._unsent: List[Call] = []
        self._has_sent = False
        #: Calls that may be in flight.
        self._calls: Set[weakref.ref[Call]] = set()
        backend = task.backend
        stored = (
            context.id is not None
            and not context.called_directly
            and not context.is_eager
            and not isinstance(backend, (DisabledBackend, RPCBackend))
        )
        ignored = context.ignore_result or task.ignore_result
        self._abort_interval: Optional[float] = task.abort_poll_interval if stored else None
        self._progress_interval: Optional[float] = task.progress_interval if stored and not ignored else None
        self._ask_backend_at = self._store_at = self._began
        self._first = True
        self._request = None if context.called_directly else _request_here(context.id)
        self._worker_process = _worker_process()
        self._soft_limit: Optional[float] = None
        #: When a run was first told that the soft limit has passed.
        self._told_at: Optional[float] = None
        self._hard_limit: Optional[float] = None
        if self._request is not None:
            # A pool that is not prefork: it keeps no soft limits, and hard ones only with greenlets.
            hard, soft = context.timelimit or (None, None)
            self._hard_limit = hard or task.time_limit
            self._soft_limit = soft or task.soft_time_limit

    @property
    def elapsed(self) -> float:
        """For how many seconds the task has been running."""
        return monotonic() - self._began

    # What runs tell.

    def prepared(self, request: Request) -> Request:
        """Returns the request of a run that asks this attempt whether to cancel, and tells it of its messages."""
        options = copy.copy(request.options)
        own, began = options.cancel_when, monotonic()
        interval = check.seconds(options.cancel_poll_interval)
        if interval > CANCEL_POLL_INTERVAL:
            options.cancel_poll_interval = CANCEL_POLL_INTERVAL
            own = None if own is None else AskedByMany(own, interval)
        options.cancel_when = lambda: self.ask(began) or (own is not None and own())
        if options.on_assistant_message is None:
            # It would call the counting in a thread of its own.
            options.assistant_callback_timeout = None
        options.on_assistant_message = self._counting(options.on_assistant_message)
        options.on_command_output = self._counting(options.on_command_output)
        return request._replace(options=options)

    def _counting(self, callback: Optional[Callable[[Any], Any]]) -> Callable[[Any], Any]:
        def count(message: Any) -> Any:
            attempt: Optional[Attempt] = self
            while attempt is not None:
                attempt.messages += 1
                blocks = getattr(message, "text_blocks", None)
                if blocks:
                    attempt.latest = message.text
                attempt = attempt._above
            return None if callback is None else callback(message)

        return count

    def note(self, run: "Run[Any]") -> None:
        """Notes a run that is about to begin."""
        attempt: Optional[Attempt] = self
        self._calls.add(weakref.ref(run._call, self._calls.discard))
        while attempt is not None:
            if not attempt.has_sent:
                attempt._unsent.append(run._call)
            attempt = attempt._above

    def leave(self) -> None:
        """Ends the attempt, with all that it still has running; may be repeated."""
        self.left = True
        if self._context.called_directly:
            return  # A function: what it has begun may be its caller's.
        for reference in list(self._calls):
            call = reference()
            if call is not None and not call.given_back:
                call.abort()

    @property
    def has_sent(self) -> bool:
        """Whether anything of any request has been sent."""
        if not self._has_sent and any(call.sent for call in self._unsent):
            self._has_sent = True
            self._unsent = []
        return self._has_sent

    # Whether to end.

    def ask(self, began: float) -> bool:
        """Returns whether the run that asks has to be cancelled; stores the progress if that is due.

        Args:
            began: When the run was made.

        Raises:
            SoftTimeLimitExceeded: The task's soft time limit has passed, and the pool does not keep it. Raised once,
                and in all runs that were made before.
            TimeLimitExceeded: The same for its hard time limit; raised whenever it is asked from then on.
        """
        if self._above is not None and self._above.ask(began):
            self._cancel(self._above.why)
        if self.left:
            # A run that the task has left behind.
            return self.cancelled or not self._context.called_directly
        if self._request is not None and self._request.terminated:
            self.revoked = True
            self._cancel("the task was revoked")
        if self._worker_process is not None and os.getppid() != self._worker_process:
            self._cancel("the worker of this process is gone")
        if not self.cancelled:
            self._check_limits(began)
            self._talk_to_backend()
        return self.cancelled

    def _cancel(self, why: str) -> None:
        self.why = self.why or why
        self.cancelled = True

    def explain(self, error: CancelledException) -> None:
        """Has an error that a run raised because of this attempt say why."""
        said = error.args[0] if error.args else ""
        if self.cancelled and isinstance(said, str) and said.endswith(_BY_CANCEL_WHEN):
            error._carry(f"{said[: -len(_BY_CANCEL_WHEN)]}: {self.why}")

    def _check_limits(self, began: float) -> None:
        elapsed = self.elapsed
        if self._hard_limit is not None and elapsed >= self._hard_limit:
            raise TimeLimitExceeded(self._hard_limit)
        if self._soft_limit is not None and elapsed >= self._soft_limit:
            if self._told_at is None:
                self._told_at = monotonic()
            elif began >= self._told_at:
                return
            raise SoftTimeLimitExceeded()

    def _talk_to_backend(self) -> None:
        now = monotonic()
        try:
            if self._abort_interval is not None and now >= self._ask_backend_at:
                self._ask_backend_at = now + self._abort_interval
                if self._is_aborted():
                    self._cancel(_ABORTED)
            if self._progress_interval is not None and not self.cancelled and now >= self._store_at:
                self._store_at = now + self._progress_interval
                if self._store_progress():
                    self._cancel(_ABORTED)
        except Exception as error:  # whatever a backend raises
            if isinstance(error, SoftTimeLimitExceeded) or raised_by_a_signal_handler(error):
                raise
            self._ask_backend_at = self._store_at = monotonic() + _PAUSE
            _logger.warning("the result backend failed during %s: %s", self.task.name, type(error).__name__)

    def _is_aborted(self) -> bool:
        state = self.task.backend.get_state(self._context.id)
        if self._first:
            # Before it began: Celery may have stored since then that it has.
            self._first = False
            return state == ABORTED or self._has_mark()
        return bool(state == ABORTED)

    def _has_mark(self) -> bool:
        return bool(self.task.backend.get_state(mark_of(self._context.id)) == ABORTED)

    def _store_progress(self) -> bool:
        """Stores the progress, unless the task has an outcome already; returns whether it is aborted."""
        task, task_id = self.task, self._context.id
        state = task.backend.get_state(task_id)
        if state == ABORTED:
            return True
        if state in states.READY_STATES:
            return False
        task.update_state(task_id, PROGRESS, task.progress_meta(self.messages, self.elapsed, self.latest))
        # What was just stored may have taken the place of an `abort`, which has left its mark before.
        return self._has_mark()
