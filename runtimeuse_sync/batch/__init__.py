"""Many runs: `run_many` runs jobs side by side and yields the outcome of each as it completes.

For example::

    from runtimeuse_sync.batch import Job, run_many

    jobs = [Job(f"Summarise {name}.", id=name) for name in names]
    for outcome in run_many(jobs, client=client, journal="runs.jsonl"):
        print(outcome.job.id, outcome.result if outcome.ok else outcome.error)

The jobs run in threads, or in the workers of any `concurrent.futures.Executor`: processes, or a cluster's machines.

Its modules: `_run_many` has the loop, `_places` where the jobs run, `_worker` what a worker does, `_lines` how a worker
learns that nobody waits for its run any more, `_journal` the file that a later call resumes from, `_jobs` and
`_outcomes` the two dataclasses and their JSON, `_progress` the bar.

Threads: the calling thread takes the jobs from their iterable, yields the outcomes, and writes the journal. What else
runs, and where, is said in the modules.
"""

from ._jobs import Job
from ._journal import JournalError
from ._outcomes import JobError, Outcome
from ._run_many import run_many

__all__ = ["Job", "JobError", "JournalError", "Outcome", "run_many"]
