"""Many runs in other processes, and on a cluster: what crosses, what is aborted, and workers that die."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import ssl
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    CancelledException,
    CommandFailedError,
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    QueryResult,
    RunTimeoutError,
    RuntimeUseClient,
)
from runtimeuse_sync.batch import Job, JobError, Outcome, run_many
from runtimeuse_sync.runtime import LocalRuntime

from ..support.builders import Start
from ..support.packages import needs
from ..support.processes import Pipe, wait_until_ended

URL = "RUNTIMEUSE_WS_URL"

Executor = concurrent.futures.Executor

#: Said of every fork beside threads since Python 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@pytest.fixture
def runtime(start: Start) -> LocalRuntime:
    return start()


@pytest.fixture(params=["spawn", "fork"])
def pool(request: pytest.FixtureRequest) -> Iterator[Executor]:
    context: Any = multiprocessing.get_context(request.param)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        yield pool


def connect() -> RuntimeUseClient:
    """Makes a client in a worker, by its environment."""
    return RuntimeUseClient(os.environ[URL], model="by a function")


def settings(runtime: LocalRuntime) -> Dict[str, Any]:
    return {"ws_url": runtime.ws_url, "model": "m"}


def by_id(outcomes: List[Outcome]) -> Dict[Any, Outcome]:
    return {outcome.job.id: outcome for outcome in outcomes}


def test_what_crosses(runtime: LocalRuntime, pool: Executor, tmp_path: Path) -> None:
    """Options and results, errors of each kind with all that they carry."""
    jobs = [
        *(Job(f"echo {number}", id=str(number)) for number in range(10)),
        Job("echo $A é; echo $A >&2", options=QueryOptions(agent_env={"A": "enviroment"}), id="env"),
        Job(commands=["true", CommandInterface("echo out; echo err >&2; exit 3", cwd=str(tmp_path))], id="fails"),
        Job(commands=["exit 3"], options=ExecuteCommandsOptions(check=False), id="unchecked"),
        Job("exit 4", options=QueryOptions(source_id="source"), id="agent"),
        Job("sleep 60", options=QueryOptions(timeout=0.5), id="late"),
        Job("echo hi", options=QueryOptions(on_assistant_message=print), id="callback"),
    ]
    found = by_id(list(run_many(jobs, connect=settings(runtime), executor=pool)))
    assert len(found) == len(jobs)
    assert [str(found[str(number)].result) for number in range(10)] == [f"{number}\n" for number in range(10)]
    assert str(found["env"].result) == "enviroment é\n"
    failed = found["fails"].error
    assert isinstance(failed, CommandFailedError)
    assert ([item.exit_code for item in failed.results], failed.stdout, failed.stderr) == ([0, 3], "out\n", "err\n")
    assert found["unchecked"].ok
    assert isinstance(found["agent"].error, AgentRuntimeError)
    assert found["agent"].error.source_id == "source"
    assert isinstance(found["late"].error, RunTimeoutError)
    assert found["late"].seconds > 0.4
    with pytest.raises(ValueError, match="on_assistant_message: callbacks and loggers cannot cross"):
        raise found["callback"].error or AssertionError


def test_how_clients_are_made(runtime: LocalRuntime, pool: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, runtime.ws_url)
    job = Job("echo hi", options=QueryOptions(model="m"))
    client = RuntimeUseClient(runtime.ws_url, headers={"X-Key": "value"})
    ways: List[Dict[str, Any]] = [
        {"connect": runtime.ws_url},
        {"connect": settings(runtime)},
        {"connect": connect},
        {"client": client},
    ]
    for way in ways:
        assert [str(each.result) for each in run_many([job], executor=pool, **way)] == ["hi\n"], way


def test_what_cannot_be_sent(runtime: LocalRuntime, pool: Executor) -> None:
    client = RuntimeUseClient(runtime.ws_url.replace("ws://", "wss://"), ssl_context=ssl.create_default_context())
    with pytest.raises(TypeError, match=r"client cannot be sent to the workers of ProcessPool.*; pass connect="):
        run_many(["a"], client=client, executor=pool)
    with pytest.raises(TypeError, match=r"connect cannot be sent to the workers of ProcessPool.*; pass a URL"):
        run_many(["a"], connect=lambda: client, executor=pool)
    with pytest.raises(TypeError, match="modle"):
        run_many(["a"], connect={"ws_url": runtime.ws_url, "modle": "m"}, executor=pool)


@pytest.mark.parametrize("leave", ["close", "interrupt"])
def test_leaving_aborts_the_runs_of_workers(runtime: LocalRuntime, pool: Executor, leave: str, tmp_path: Path) -> None:
    """The pool goes on; jobs that wait for a worker do not run."""
    pipe = Pipe(tmp_path / "pipe")
    jobs = ["echo first", "echo $$ > pipe; exec sleep 60", *["echo >> ran; sleep 60"] * 4]
    outcomes = run_many(jobs, connect=settings(runtime), executor=pool, max_workers=len(jobs))
    assert next(outcomes).ok
    pids = pipe.numbers()
    if leave == "close":
        outcomes.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            outcomes.throw(KeyboardInterrupt())
    wait_until_ended(*pids)
    after = run_many(["echo next"], connect=settings(runtime), executor=pool)
    assert [str(each.result) for each in after] == ["next\n"]
    # Of the others, the second worker may have begun one.
    ran = tmp_path / "ran"
    assert not ran.exists() or ran.read_text() in ("", "\n")


def test_a_worker_that_dies(runtime: LocalRuntime, pool: Executor, tmp_path: Path) -> None:
    """The lost jobs have the executor's error; the others, which nobody can run, are not passed over in silence."""
    pipe = Pipe(tmp_path / "pipe")
    jobs = [Job("echo first", id="0"), Job("echo $$ > pipe; exec sleep 60", id="1")]
    jobs += [Job("sleep 60", id=str(number)) for number in range(2, 40)]
    outcomes = run_many(jobs, connect=settings(runtime), executor=pool, max_workers=2)
    seen = [next(outcomes)]
    pids = pipe.numbers()
    for process in list(getattr(pool, "_processes").values()):  # noqa: B009  # typeshed does not know it
        process.kill()
    with pytest.raises(BrokenProcessPool, match=r"no more jobs: .*; the job '\d+' and those after"):
        seen.extend(outcomes)
    found = by_id(seen)
    assert found["0"].ok
    assert set(found) == {"0", "1", "2"}
    assert [type(found[lost].error) for lost in "12"] == [BrokenProcessPool, BrokenProcessPool]
    wait_until_ended(*pids)


def test_pickled_clients_have_no_calls(runtime: LocalRuntime) -> None:
    client = RuntimeUseClient(runtime.ws_url, model="m", timeout=60)
    with client.session() as session:
        future, within = client.submit("sleep 60"), session.submit("sleep 60")
        copy = pickle.loads(pickle.dumps(client))
        assert copy.query("echo hi").text == "hi\n"
        copy.abort()
        assert not future.done()
        for each in (future, within):
            each.abort()
            assert isinstance(each.exception(), CancelledException)


# On a cluster.


@pytest.fixture(scope="class")
def cluster() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            yield client


@needs("distributed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.leaks_allowed("the cluster's processes and sockets live as long as the tests of this class")
class TestOnACluster:
    """A real one, of processes on this machine."""

    def test_what_crosses(self, runtime: LocalRuntime, cluster: Any) -> None:
        jobs = [*(Job(f"echo {number}", id=str(number)) for number in range(20)), Job(commands=["exit 3"], id="fails")]
        executor = cluster.get_executor()
        found = by_id(list(run_many(jobs, connect=settings(runtime), executor=executor)))
        assert [str(found[str(number)].result) for number in range(20)] == [f"{number}\n" for number in range(20)]
        assert isinstance(found["fails"].error, CommandFailedError)
        client = RuntimeUseClient(runtime.ws_url, model="m")
        assert all(each.ok for each in run_many(["echo hi"], client=client, executor=executor))
        url = runtime.ws_url
        made = run_many(["echo hi"], connect=lambda: RuntimeUseClient(url, model="m"), executor=executor)
        assert [type(each.result) for each in made] == [QueryResult]

    def test_leaving_aborts_the_runs_of_workers(self, runtime: LocalRuntime, cluster: Any, tmp_path: Path) -> None:
        pipe = Pipe(tmp_path / "pipe")
        jobs = ["echo first", "echo $$ > pipe; exec sleep 60", *["sleep 60"] * 6]
        executor = cluster.get_executor()
        outcomes = run_many(jobs, connect=settings(runtime), executor=executor)
        assert next(outcomes).ok
        pids = pipe.numbers()
        outcomes.close()
        wait_until_ended(*pids)
        assert all(each.ok for each in run_many(["echo hi"], connect=settings(runtime), executor=executor))

    def test_a_worker_that_dies(self, runtime: LocalRuntime, cluster: Any, tmp_path: Path) -> None:
        """dask runs what it lost on another worker; a run that had begun is not begun twice."""
        pipe = Pipe(tmp_path / "pipe")
        jobs = ["echo >> ran; echo 1 > pipe; exec sleep 60", *(f"echo {number}" for number in range(5))]
        outcomes = run_many(jobs, connect=settings(runtime), executor=cluster.get_executor())
        seen = [next(outcomes) for _ in range(5)]
        assert all(each.ok for each in seen)
        assert pipe.numbers() == [1]
        running = [address for address, keys in cluster.processing().items() if keys]
        (pid,) = cluster.run(os.getpid, workers=running).values()
        os.kill(pid, signal.SIGKILL)
        last = next(outcomes)
        assert isinstance(last.error, JobError)
        assert "has died; the job is not run a second time" in str(last.error)
        assert (tmp_path / "ran").read_text() == "\n"
        assert list(outcomes) == []
