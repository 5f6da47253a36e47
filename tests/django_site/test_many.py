"""Many runs at once through gunicorn's threads: a third is cancelled, a third left by its readers, a third goes on.

None is left running, each belongs to its owner and has what it said and nothing of another's. In the end the server has
no thread of theirs, and no descriptor more than before.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from pathlib import Path
from typing import Dict, List

import pytest

from ..support.packages import needs
from ..support.tally import FULL
from ..support.threads import InThread, when
from .running import PATIENCE, Server, Site, wait_until_ended

pytestmark = [
    needs("django", "gunicorn"),
    pytest.mark.skipif(sys.version_info < (3, 13), reason="servers as processes run on one Python"),
    pytest.mark.timeout(1200 if FULL else 400),
]

RUNS = 201 if FULL else 21
OWNERS = [f"owner{number}" for number in range(7)]

#: Longer than any reader takes to connect again when its stream has ended.
ABANDON_AFTER = 30 if FULL else 10


def test_many_runs_at_once(runtime: str, data: Path) -> None:
    settings = {"abandon_after": ABANDON_AFTER, "lost_after": 300, "runs_at_once": RUNS}
    site = Site(data, runtime, OWNERS, **settings)
    # Twice as many threads as runs: each is watched, and may be cancelled meanwhile.
    options = ["--workers", "2", "--threads", str(2 * RUNS)]
    with site.serve("gunicorn-gthread", *options, application="tests.django_site.counting:application") as server:
        before = descriptors(server)
        owners: Dict[str, str] = {}
        processes = perform_all(server, owners)
        when(lambda: "running" not in site.statuses(), "all runs to end", patience=2 * ABANDON_AFTER + PATIENCE)
        wait_until_ended(*processes)
        third = RUNS // 3
        assert site.statuses() == {"done": third, "cancelled": 2 * third}
        reasons = dict(site.query("select reason, count(*) from runs_run group by reason"))
        assert reasons.pop(f"Nobody was watching any more for {ABANDON_AFTER} seconds.") == third
        assert reasons.pop("") == third
        assert reasons == {f"Cancelled by {owner}.": len(OF_OWNER[owner]) for owner in OWNERS}
        check_owners(site, owners)
        when(lambda: not threads_left(server), "the threads of runs to end", patience=PATIENCE)
        when(lambda: fits(descriptors(server), before), f"no more descriptors than {before}", patience=PATIENCE)
        assert "Traceback" not in server.log
        assert server.end() == 0, server.log


#: Which runs of each owner are cancelled.
OF_OWNER = {
    owner: [number for number in range(1, RUNS, 3) if OWNERS[number % len(OWNERS)] == owner] for owner in OWNERS
}


def descriptors(server: Server) -> Dict[int, int]:
    """Returns how many descriptors each process of the server has open."""
    return {process.pid: process.num_fds() for process in server.processes()}


def fits(now: Dict[int, int], before: Dict[int, int]) -> bool:
    return now.keys() == before.keys() and all(now[pid] <= before[pid] for pid in now)


def threads_left(server: Server) -> List[str]:
    """Returns the threads of runs, of the recorder and of the client that there are in all workers."""
    workers = {process.pid for process in server.processes()[1:]}
    found: List[str] = []
    while workers:
        answer = json.loads(server.visitor().get("/held").body)
        workers.discard(answer["pid"])
        found += answer["threads"]
    return found


def perform_all(server: Server, owners: Dict[str, str]) -> List[int]:
    """Has all of them run at once; notes whose each is, and returns the processes that must have ended."""
    running = threading.Semaphore(0)
    all_run = threading.Event()

    def perform(number: int) -> int:
        owner = OWNERS[number % len(OWNERS)]
        visitor = server.visitor(owner)
        ends_well = number % 3 == 0
        mark = f"mark-{number}-of-{owner}."
        goes = f"while [ ! -e {server.site.data}/go ]; do sleep 0.2; done; echo end-{number}."
        rest = goes if ends_well else "exec sleep 3600"
        run = visitor.start(f"echo {mark} pid $$; {rest}")
        owners[run.split("/")[2].replace("-", "")] = owner
        with visitor.read(run) as reader:
            said = reader.until("pid ")
            found = re.search(r"pid (\d+)", said)
            assert found is not None
            assert said.startswith(mark), (said, mark)
            running.release()
            reader.stay(all_run.is_set)
            if number % 3 == 2:
                return int(found.group(1))
            if not ends_well:
                stranger = server.visitor(OWNERS[(number + 1) % len(OWNERS)])
                assert stranger.cancel(run).status == 404
                assert visitor.cancel(run).status == 302
            events, end = reader.all()
        texts = [data["text"] for kind, data in events if kind == "assistant"]
        assert (end["status"], texts) == (("done", [f"end-{number}."]) if ends_well else ("cancelled", []))
        return int(found.group(1))

    threads = [InThread(perform, number) for number in range(RUNS)]
    for _ in range(RUNS):
        if not running.acquire(timeout=300 if FULL else 100):
            break  # Its thread has failed, and says why.
    all_run.set()
    (server.site.data / "go").touch()
    for thread in threads:
        thread.join()
    return [thread.result() for thread in threads]


def check_owners(site: Site, owners: Dict[str, str]) -> None:
    rows = site.query(
        "select r.id, u.username, r.prompt, group_concat(json_extract(e.data, '$.text'), '|') from runs_run r "
        "join auth_user u on u.id = r.owner_id "
        "join runs_event e on e.run_id = r.id and e.kind = 'assistant' group by r.id"
    )
    assert len(rows) == RUNS
    for run, owner, prompt, said in rows:
        mark = prompt.split()[1]
        assert owners[run] == owner
        assert mark.endswith(f"-of-{owner}.")
        # Of what it said, all marks are its own.
        assert set(re.findall(r"mark-\S+", said)) == {mark}
