"""Many runs side by side: futures, a batch with a journal that a second attempt resumes from, and worker processes."""

import concurrent.futures
import multiprocessing
import os
import tempfile

from runtimeuse_sync import CancelledException, RuntimeUseClient
from runtimeuse_sync.batch import Job, run_many
from runtimeuse_sync.runtime import LocalRuntime


def futures(client: RuntimeUseClient) -> None:
    submitted = [client.submit(f"sleep 0.{n}; echo {n}") for n in (4, 1)]
    print("as completed:", [future.result().text.strip() for future in concurrent.futures.as_completed(submitted)])
    endless = client.submit("sleep 60")
    endless.abort()
    try:
        endless.result()
    except CancelledException as error:
        print("aborted:", error)


def batch(client: RuntimeUseClient, directory: str) -> None:
    jobs = [Job(f"wc -c < {name}", id=name) for name in ("small.txt", "large.txt", "missing.txt")]
    journal = os.path.join(directory, "runs.jsonl")
    for attempt in (1, 2):
        outcomes = {outcome.job.id: outcome for outcome in run_many(jobs, client=client, journal=journal)}
        for job in jobs:
            outcome = outcomes[job.id]
            said = str(outcome.result).strip() if outcome.ok else type(outcome.error).__name__
            print(f"attempt {attempt}: {job.id}: {said}{' (from the journal)' if outcome.from_journal else ''}")


def processes(runtime: LocalRuntime) -> None:
    """The client crosses to the workers by what it is made of, the jobs and their outcomes as JSON."""
    connect = {"ws_url": runtime.ws_url, "model": "any"}
    jobs = [Job(commands=[f"echo {n}"]) for n in range(4)]
    # Not forked: beside threads, such as the runtime's, that may deadlock.
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn) as pool:
        ok = [outcome.ok for outcome in run_many(jobs, connect=connect, executor=pool, max_workers=4)]
    print("in processes:", ok)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, LocalRuntime(root=directory) as runtime:
        client = RuntimeUseClient(runtime.ws_url, model="any")
        client.execute_commands(["printf 1234 > small.txt", "head -c 5000 /dev/zero > large.txt"])
        futures(client)
        batch(client, directory)
        processes(runtime)
