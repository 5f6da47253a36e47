"""`run_many`: runs many jobs, and yields the outcome of each as it completes.

One generator owns everything. Each step of it first starts jobs until `max_workers` are in flight, then yields an
outcome if there is one, else waits for one. So at most `max_workers` jobs are taken from their iterable ahead of the
outcomes, and while the consumer works on an outcome, the workers have something to do.

A job's states: taken → in flight → done → recorded in the journal → yielded. An outcome is recorded as soon as the
generator sees that it is done, so an outcome that is yielded is in the journal.

What ends it: there are no more jobs, and all outcomes are yielded. A failure (the iterable of the jobs, the journal or
the progress callback raises, the executor accepts no more jobs, or a job is refused) stops it from taking jobs; what is
in flight ends and is yielded, and then the failure is raised. An interrupt, and leaving the generator early, aborts
what is in flight, waits for its end, and records what is done.

Threads: the generator runs in the thread that iterates over it. Workers only add to `_finished`, and wake it.
"""

import collections
import concurrent.futures
import logging
import math
import os
from typing import TYPE_CHECKING, Collection, Deque, Dict, Generator, Iterable, Iterator, Optional, Tuple, Union

from .._call import Wakeup, monotonic
from .._interrupts import cleaned_up, raised_by_a_signal_handler, surely
from .._wire import validation as check
from ..client import RuntimeUseClient
from ..errors import CancelledException
from ._jobs import Job, Keys
from ._journal import Journal, JournalError
from ._outcomes import Done, Outcome
from ._places import AnyFuture, NoMoreJobs, Place, place_for
from ._progress import Bar, Called, Progress, check_progress, reporter
from ._worker import Connect

#: How many seconds to wait for the end of what was aborted.
LEAVING_PATIENCE = 10.0

_logger = logging.getLogger("runtimeuse_sync")

if TYPE_CHECKING:
    JournalPath = Union[str, os.PathLike[str]]
else:
    JournalPath = Union[str, os.PathLike]  # Not subscriptable on Python 3.8.


def run_many(
    jobs: Iterable[Union[Job, str]],
    *,
    client: Optional[RuntimeUseClient] = None,
    connect: Optional[Connect] = None,
    executor: Optional[concurrent.futures.Executor] = None,
    max_workers: int = 8,
    progress: Progress = None,
    journal: Optional[JournalPath] = None,
) -> Generator[Outcome, None, None]:
    """Runs jobs side by side, and yields the outcome of each as it completes.

    A job that fails keeps no other from running: its outcome has the error. Ctrl-C, and leaving the loop early
    (`break`, or `close()` of the returned generator), abort what is in flight and wait up to 10 s for its end. Nothing
    runs before the first outcome is asked for. Jobs are taken from their iterable in the calling thread, one by one, as
    workers become free; it may be endless.

    If the iterable, the journal or the progress callback raises, or the executor accepts no more jobs, no more jobs are
    taken; what is in flight is finished and yielded, and then that exception is raised.

    With a journal, outcomes are written to a file before they are yielded, and each is synced to the disk: whatever
    kills the process, at most what was in flight is lost. When called again with the same journal, results that are in
    it are yielded without running their jobs; jobs that failed are run again. A job is identified by its `id`, or else
    by its content: prompt or commands, and options except timeouts, `source_id` and `secrets_to_redact`. Jobs with
    equal content and without ids are told apart by counting. The journal has neither prompts nor options nor secrets,
    but it has the results. Only one call at a time can use it.

    Args:
        jobs: The jobs; a string is a job with that prompt.
        client: The client that runs them. Either this or `connect`. It can be sent to other processes only if it can be
            pickled.
        connect: How to make the client, in each process of the executor: the runtime's URL, a dict of arguments of
            `RuntimeUseClient`, or a function that returns a client (for processes, one that can be pickled).
        executor: Where to run the jobs: any `concurrent.futures.Executor`, which stays open. Default: threads. In a
            `ThreadPoolExecutor`, the calls run in its threads. For all others, jobs and outcomes are sent as JSON; jobs
            with callbacks then fail with a `ValueError`. Its workers must be on this machine, or be those of a
            `distributed.Client` (`get_executor()`).
        max_workers: How many jobs are in flight at once (default 8), in an executor, too; jobs that wait there for a
            free worker count.
        progress: `True` shows tqdm's bar on stderr (extra `[progress]`). A function is called after each outcome, in
            the calling thread, with the number of outcomes so far and of all jobs (`None` if `jobs` has no length).
            Default: neither.
        journal: The path of the journal, which is created if it does not exist. Default: none.

    Returns:
        A generator of outcomes.

    Raises:
        JournalError: When iterated over: the journal is in use, is damaged, is none, or belongs to other jobs.
        OSError: When iterated over: the journal cannot be read or written.
        BrokenExecutor: When iterated over: the executor's workers died; the jobs that they ran have outcomes with
            errors.
        Exception: When iterated over: whatever the iterable and the progress callback raise.
        ImportError: `progress=True`, and tqdm is not installed.
        TypeError: An argument has the wrong type, or cannot be sent to the executor's processes. When iterated over: an
            item of `jobs` is no job.
        ValueError: An argument has an invalid value, or not exactly one of `client` and `connect` is given. When
            iterated over: an item of `jobs` has the id of another.
    """
    if isinstance(jobs, (str, bytes, Job)):
        raise TypeError(f"jobs must be an iterable of jobs, not a single {type(jobs).__name__}")
    check.check_type("jobs", jobs, collections.abc.Iterable, "an iterable of jobs")
    check.check_type("max_workers", max_workers, int, "a number of jobs")
    if max_workers < 1:
        raise ValueError(f"max_workers must be 1 or more, not {max_workers}")
    if journal is not None:
        check.check_type("journal", journal, (str, os.PathLike), "a path")
        if not os.fspath(journal):
            raise ValueError("journal must not be empty")
    make_place = place_for(executor, client, connect)
    check_progress(progress)

    def outcomes() -> Generator[Outcome, None, None]:
        batch = _Batch(jobs, max_workers)
        try:
            batch.open(journal, progress)
            batch.place = make_place()
            yield from batch.outcomes()
        finally:
            # Not in one: a second Ctrl-C ends the wait, and what has ended must still be recorded.
            cleaned_up(lambda: surely(batch.leave), batch.close)

    return outcomes()


class _Flight:
    """A job in flight."""

    def __init__(self, job: Job, key: str) -> None:
        self.job = job
        self.key = key
        self.future: Optional[AnyFuture] = None
        self.began = monotonic()


class _Batch:
    """What one call of `run_many` has."""

    def __init__(self, jobs: Iterable[Union[Job, str]], max_workers: int) -> None:
        self.place: Optional[Place] = None
        self._jobs = jobs
        self._max_workers = max_workers
        self._iterator: Optional[Iterator[Union[Job, str]]] = None
        self._keys = Keys(for_journal=False)
        self._journal: Optional[Journal] = None
        self._reporter: Union[Bar, Called, None] = None
        self._flights: Dict[int, _Flight] = {}
        self._finished: Deque[Tuple[int, float]] = collections.deque()
        self._ready: Deque[Outcome] = collections.deque()
        self._wakeup = Wakeup()
        self._taken = 0
        self._done = 0
        self._failure: Optional[BaseException] = None
        self._has_left = False
        self._has_waited = False

    def open(self, journal: Optional[JournalPath], progress: Progress) -> None:
        """Opens the journal and the bar, and begins with the iterable of the jobs."""
        total = len(self._jobs) if isinstance(self._jobs, collections.abc.Sized) else None
        if journal is not None:
            self._journal = Journal(journal)
            self._keys = Keys(for_journal=True)
            if isinstance(self._jobs, collections.abc.Collection):
                self._check_journal(self._journal, self._jobs)
        self._reporter = reporter(progress, total)
        self._iterator = iter(self._jobs)

    def outcomes(self) -> Iterator[Outcome]:
        """Yields the outcomes; then raises the failure, if there was one."""
        while True:
            self._start_jobs()
            if self._ready:
                yield self._ready.popleft()
            elif self._flights:
                self._wait()
            elif self._failure is not None:
                raise self._failure
            elif self._iterator is None:
                return

    # Before a job runs.

    def _check_journal(self, journal: Journal, jobs: Collection[Union[Job, str]]) -> None:
        """Raises `JournalError` if the journal has outcomes, but none of these jobs."""
        if journal.is_empty or not jobs:
            return
        keys = Keys(for_journal=True)
        for each in jobs:
            try:
                known = journal.knows(keys.key_of(_job_of(each)))
            except (TypeError, ValueError):
                return  # A job that is refused when its turn comes.
            if known:
                return
        raise JournalError(
            f"journal {journal.path!r} has outcomes, but of none of these {len(jobs)} jobs: it belongs to other jobs; "
            "use another file"
        )

    def _start_jobs(self) -> None:
        """Takes and starts jobs while there are workers for them; results from the journal become ready outcomes."""
        while (
            self._iterator is not None
            and self._failure is None
            and len(self._flights) < self._max_workers
            and len(self._ready) < self._max_workers
        ):
            try:
                item = next(self._iterator)
            except StopIteration:
                self._iterator = None
                return
            except Exception as error:
                self._fail(error)
                return
            self._start(item)

    def _start(self, item: Union[Job, str]) -> None:
        try:
            job = _job_of(item)
            key = self._keys.key_of(job)
            recorded = None if self._journal is None else self._journal.result_of(key, job)
        except (TypeError, ValueError, OSError) as error:
            self._fail(error)
            return
        if recorded is not None:
            self._add(Outcome(job, recorded.result, None, recorded.seconds, from_journal=True))
            return
        assert self.place is not None
        self._taken += 1
        number = self._taken
        flight = self._flights[number] = _Flight(job, key)

        def finished(_: AnyFuture) -> None:
            # Not the flight, which has the future: in a reference cycle, dask's future would keep its result in the
            # cluster, and compute it again if its worker died.
            self._finished.append((number, monotonic()))
            self._wakeup.wake()

        def track(future: AnyFuture) -> None:
            flight.future = future
            future.add_done_callback(finished)

        try:
            self.place.start(job, number, track)
        except NoMoreJobs as refused:
            del self._flights[number]
            self._fail(_no_more_jobs(job, refused.__cause__))
        except Exception as error:
            if raised_by_a_signal_handler(error):
                raise  # Its run may have begun: it stays in flight, and is waited for.
            del self._flights[number]
            done = Done(None, error, monotonic() - flight.began)
            self._record(flight, done)
            self._add(Outcome(job, None, error, done.seconds))

    def _fail(self, error: BaseException) -> None:
        """Notes a failure, which is raised once all that is in flight has ended; an interrupt is raised at once."""
        if raised_by_a_signal_handler(error):
            raise error
        if self._failure is None:
            self._failure = error
        else:
            _logger.warning("run_many failed a second time: %s", type(error).__name__)

    # After a job has run.

    def _wait(self) -> None:
        """Waits until a job has ended, and takes note of it."""
        while not self._finished:
            self._wakeup.wait(math.inf)
        self._take_finished()

    def _take_finished(self) -> None:
        while self._finished:
            number, ended = self._finished[0]
            flight = self._flights.get(number)
            if flight is None:
                self._finished.popleft()
                continue
            assert flight.future is not None
            assert self.place is not None
            done = self.place.done(flight.future, number, ended - flight.began)
            # In this order: an interrupt may make it be recorded twice, which does no harm, but never not at all.
            self._record(flight, done)
            del self._flights[number]
            self._finished.popleft()
            self._add(Outcome(flight.job, done.result, done.error, done.seconds))

    def _record(self, flight: _Flight, done: Done) -> None:
        if self._journal is not None and not (self._has_left and isinstance(done.error, CancelledException)):
            try:
                self._journal.record(flight.key, flight.job, done)
            except OSError as error:
                self._fail(error)

    def _add(self, outcome: Outcome) -> None:
        self._done += 1
        self._ready.append(outcome)
        if self._reporter is not None and self._failure is None and not self._has_left:
            try:
                self._reporter.update(self._done, outcome.ok)
            except Exception as error:
                self._fail(error)

    # The end.

    def leave(self) -> None:
        """Aborts what is in flight, waits for its end, and records what is done; may be repeated."""
        self._has_left = True
        if self.place is not None:
            self.place.leave()
            self._abort_all(self.place)
        self._take_finished()

    def close(self) -> None:
        """Closes the journal and the bar; may be repeated."""
        if self._journal is not None:
            self._journal.close()
        if self._reporter is not None:
            self._reporter.close()

    def _abort_all(self, place: Place) -> None:
        futures = {number: flight.future for number, flight in self._flights.items() if flight.future is not None}
        for future in futures.values():
            place.cancel(future)
        if self._has_waited:
            return  # A second Ctrl-C.
        self._has_waited = True
        until = monotonic() + LEAVING_PATIENCE
        # Not by `concurrent.futures.wait`, which returns before the callbacks have run that add to `_finished`.
        while True:
            left = futures.keys() - {number for number, _ in list(self._finished)}
            seconds = until - monotonic()
            if not left or seconds <= 0:
                break
            self._wakeup.wait(seconds)
        if left:
            _logger.warning("%d aborted run(s) have not ended within %g s", len(left), LEAVING_PATIENCE)


def _job_of(item: Union[Job, str]) -> Job:
    if isinstance(item, str):
        return Job(item)
    check.check_type("an item of jobs", item, Job, "a Job or a str")
    return item


def _no_more_jobs(job: Job, error: Optional[BaseException]) -> BaseException:
    """Returns the failure of an executor that accepts no more jobs."""
    named = "a job" if job.id is None else f"the job {job.id!r}"
    text = f"the executor accepts no more jobs: {error}; {named} and those after it have not been run"
    kind = type(error) if isinstance(error, concurrent.futures.BrokenExecutor) else RuntimeError
    failure = kind(text)
    failure.__cause__ = error
    return failure
