"""What this process does goes into the database here: events, ends, signs of life, and who has readers.

A run belongs to no request. It has a thread of the server process that it was started in (`work.py`), which hands what
happens to the process's recorder. The recorder has one thread, and writes for all runs of its process, several changes
in a transaction: SQLite lets one writer in at a time, and two hundred threads that wait for their turn each would take
ages. So the threads of runs have no connections to the database at all while they run.

Once a second the recorder notes that its process is at work on its runs. If a process is killed, that ends, and
whoever looks at its runs next, in whichever process, marks them as lost (`RunQuerySet.mark_lost`). The recorder
notices when that has happened to a run of its own, and ends it. It also ends runs whose last reader has left, in
whatever process that reader was, unless they are to go on alone.

Threads: any may call `begin`, `record`, `finish` and `reading`. The recorder's starts when there is anything to do, and
ends when there is nothing left. `_state` guards all attributes; what is written is taken out under it and written
without it, so that nobody who records waits for the database, unless much is waiting already.

When a server ends in good order, its runs are cancelled on the runtime, and are marked as lost with that as the reason.
Servers that tell call `shut_down` (`gunicorn.conf.py`, `config/asgi.py`). Under the others, the interpreter waits for
the threads of runs and for the recorder's, and the runs notice that the main thread has ended (`Work.must_end`).
"""

import contextlib
import datetime
import logging
import os
import platform
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from django.conf import settings
from django.db import DataError, IntegrityError, connection, transaction
from django.db import Error as DatabaseFailure
from django.utils import timezone

from .models import Artifact, Event, Run

logger = logging.getLogger(__name__)

#: Seconds between two signs of life, and the least between two transactions.
BEAT = 1.0
PAUSE = 0.1
#: As many characters may wait to be written; beyond that, the runs wait, and by them the runtime.
MAX_WAITING = 8 * 1024 * 1024

#: What says that the database is there, but does not take these rows.
REFUSALS = (DataError, IntegrityError)

SHUT_DOWN = "The server was stopped or restarted while this was running."


@dataclass(frozen=True)
class Ending:
    """How a run ends: its status (of `Run.Status`), the reason in words, and the files that it has made."""

    status: Any
    reason: str = ""
    artifacts: Tuple[Artifact, ...] = ()


class Work:
    """A run at work in this process.

    Attributes:
        run_id: The run's primary key.
        goes_on_alone: Whether it goes on without readers.
        ending: Why it must end, once somebody has decided that; the first one counts.
    """

    def __init__(self, run_id: uuid.UUID, *, goes_on_alone: bool) -> None:
        self.run_id = run_id
        self.goes_on_alone = goes_on_alone
        self.ending: Optional[Ending] = None
        self.events = 0

    def end(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending

    def must_end(self) -> bool:
        """Whether the run must end; its thread asks this all the time, as `cancel_when`."""
        if not threading.main_thread().is_alive():
            self.end(Ending(Run.Status.LOST, SHUT_DOWN))
        return self.ending is not None


@dataclass
class _Entry:
    """One thing to be written: an event, or the end of a run."""

    work: Work
    event: Optional[Event] = None
    ending: Optional[Ending] = None
    size: int = 0
    written: threading.Event = field(default_factory=threading.Event)


class Recorder:
    """Writes what happens in this process; `recorder` returns the one there is."""

    def __init__(self) -> None:
        #: No other process has it, not even a later one with the same number.
        self.server = uuid.uuid4().hex
        self.server_name = f"process {os.getpid()} on {platform.node() or 'this machine'}"
        self._state = threading.Condition()
        self._works: Dict[uuid.UUID, Work] = {}
        self._readers: Counter[uuid.UUID] = Counter()
        #: Runs that have had a reader since the last sign of life, however short its stay.
        self._read: Set[uuid.UUID] = set()
        self._waiting: List[_Entry] = []
        self._size = 0
        self._thread: Optional[threading.Thread] = None
        self._is_shutting_down = False

    # What others call.

    def begin(self, work: Work) -> None:
        """Takes a run in; its row must name this recorder's server."""
        with self._state:
            self._works[work.run_id] = work
            if self._is_shutting_down:
                work.end(Ending(Run.Status.LOST, SHUT_DOWN))
            self._wake()

    def shut_down(self, seconds: float = 15.0) -> bool:
        """Ends all runs as lost, and waits for that; returns whether all have ended in time. None begins any more."""
        with self._state:
            self._is_shutting_down = True
            for work in self._works.values():
                work.end(Ending(Run.Status.LOST, SHUT_DOWN))
            return self._state.wait_for(lambda: not self._works, seconds)

    def record(self, work: Work, kind: str, data: Dict[str, Any], size: int = 0) -> None:
        """Has an event written soon. Waits while too much is waiting already."""
        with self._state:
            self._state.wait_for(lambda: self._size < MAX_WAITING or work.must_end(), timeout=60)
            work.events += 1
            event = Event(run_id=work.run_id, number=work.events, kind=kind, data=data)
            self._put(_Entry(work, event=event, size=size))

    def finish(self, work: Work, ending: Ending) -> None:
        """Has the end of a run written, and returns when it is. The run is given back then."""
        entry = _Entry(work, ending=ending)
        with self._state:
            self._put(entry)
        entry.written.wait()

    @contextlib.contextmanager
    def reading(self, run_id: uuid.UUID) -> Iterator[None]:
        """Counts a reader of a run, wherever that is at work."""
        with self._state:
            self._readers[run_id] += 1
            self._read.add(run_id)
            self._wake()
        try:
            yield
        finally:
            with self._state:
                self._readers[run_id] -= 1
                if self._readers[run_id] <= 0:
                    del self._readers[run_id]
                self._state.notify_all()

    def _put(self, entry: _Entry) -> None:
        self._waiting.append(entry)
        self._size += entry.size
        self._wake()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="runtimeuse-site-recorder", daemon=False)
            self._thread.start()
        self._state.notify_all()

    # What the recorder's thread does.

    def _write_all(self) -> None:
        beat_at = time.monotonic()
        try:
            while True:
                with self._state:
                    self._state.wait_for(lambda: self._waiting or self._is_idle(), max(0.0, beat_at - time.monotonic()))
                    if self._is_idle():
                        self._thread = None
                        return
                    entries, self._waiting, self._size = self._waiting, [], 0
                    is_beat = time.monotonic() >= beat_at
                    works = list(self._works.values()) if is_beat else []
                    readers = [*self._read.union(self._readers)] if is_beat else []
                    self._read.difference_update(readers)
                    self._state.notify_all()
                self._write_in_time(entries, works, readers)
                if is_beat:
                    beat_at = time.monotonic() + BEAT
                with self._state:
                    for entry in entries:
                        if entry.ending is not None:
                            self._works.pop(entry.work.run_id, None)
                    self._state.notify_all()
                for entry in entries:
                    entry.written.set()
                # More changes in a transaction: what comes meanwhile is written together.
                time.sleep(PAUSE)
        finally:
            connection.close()

    def _is_idle(self) -> bool:
        # At the end of the process nobody tells that a reader has gone.
        is_over = self._is_shutting_down or not threading.main_thread().is_alive()
        has_readers = bool(self._readers or self._read) and not is_over
        return not (self._works or self._waiting or has_readers)

    def _write_in_time(self, entries: List[_Entry], works: List[Work], readers: List[uuid.UUID]) -> None:
        """Writes, again and again if the database fails; until the runs count as lost, and others say so.

        What it refuses is of one run, so the runs are then written one by one, and only that run is given up.
        """
        give_up_at = time.monotonic() + settings.RUNS["LOST_AFTER"]
        refusals = 0
        while True:
            try:
                self._write(entries, works, readers)
                return
            except Exception as error:
                connection.close()
                refusals += not isinstance(error, DatabaseFailure) or isinstance(error, REFUSALS)
                concerned = {entry.work.run_id: entry.work for entry in entries}
                if refusals and len(concerned) > 1:
                    for run_id in concerned:
                        self._write_in_time([entry for entry in entries if entry.work.run_id == run_id], [], [])
                    entries, refusals = [], 0
                elif refusals > 1 or time.monotonic() >= give_up_at:
                    # Not for ever: whoever waits for this must go on, and nobody may wait for runs without a record.
                    logger.exception("events could not be written to the database: their runs are given up")
                    with self._state:
                        for work in list(concerned.values() if refusals and concerned else self._works.values()):
                            work.end(Ending(Run.Status.LOST, "The database could not be written to."))
                    return
                else:
                    logger.warning("the database could not be written to; trying again", exc_info=True)
                    time.sleep(BEAT / 2)

    def _write(self, entries: List[_Entry], works: List[Work], readers: List[uuid.UUID]) -> None:
        now = timezone.now()
        mine = Run.objects.running().filter(server=self.server)
        concerned = {work.run_id: work for work in [*works, *(entry.work for entry in entries)]}
        with transaction.atomic():
            # First of all a write: SQLite refuses one that comes after a read if another process has written between.
            mine.filter(pk__in=concerned).update(beat_at=now)
            still_mine = set(mine.filter(pk__in=concerned).values_list("pk", flat=True))
            events = [entry.event for entry in entries if entry.event is not None]
            # Some are there already if the connection was lost at the end of a transaction, which is tried again then.
            new_events = [event for event in events if event.run_id in still_mine]
            Event.objects.bulk_create(new_events, ignore_conflicts=True)
            for entry in entries:
                if entry.ending is not None:
                    changes = {"status": entry.ending.status, "reason": entry.ending.reason, "ended_at": now}
                    if mine.filter(pk=entry.work.run_id).update(**changes):
                        # Without a primary key set in them, which may be another's when this is tried again.
                        Artifact.objects.bulk_create(entry.ending.artifacts, ignore_conflicts=True)
            Run.objects.running().filter(pk__in=readers).update(watched_at=now)
        for run_id, work in concerned.items():
            if run_id not in still_mine:
                work.end(Ending(Run.Status.LOST, "Another server has marked it as lost, or it was removed."))
        self._end_abandoned(works)

    def _end_abandoned(self, works: List[Work]) -> None:
        seconds = settings.RUNS["ABANDON_AFTER"]
        attached = {work.run_id: work for work in works if not work.goes_on_alone}
        if not attached:
            return
        left = timezone.now() - datetime.timedelta(seconds=seconds)
        for run_id in Run.objects.filter(pk__in=attached, watched_at__lt=left).values_list("pk", flat=True):
            reason = f"Nobody was watching any more for {seconds:g} seconds."
            attached[run_id].end(Ending(Run.Status.CANCELLED, reason))


_of_process: Tuple[Optional[Recorder], threading.Lock] = (None, threading.Lock())


def recorder() -> Recorder:
    """Returns the recorder of this process, and makes it with the first call."""
    global _of_process
    made, lock = _of_process
    if made is None:
        with lock:
            made = _of_process[0] or Recorder()
            _of_process = (made, lock)
    return made


def _forget() -> None:
    # A child has neither the threads nor the runs of its parent, and the lock may be taken for ever.
    global _of_process
    _of_process = (None, threading.Lock())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
