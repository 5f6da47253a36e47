"""The example site under the servers that people use: each has its own idea of threads, processes, and leaving."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from ..support.packages import needs
from ..support.threads import when
from .browsing import Reader
from .running import PATIENCE, SERVERS, Server, Site, wait_until_ended

pytestmark = [
    needs("django", "gunicorn", "gevent", "waitress", "uvicorn"),
    pytest.mark.skipif(sys.version_info < (3, 13), reason="servers as processes run on one Python"),
]

#: What stays until it is ended, and says which process that would be.
STAYS = "echo pid $$; exec sleep 3600"

#: How a server is asked to end, if not by SIGTERM: these die of that on the spot.
ENDED_BY = {"runserver": signal.SIGINT, "waitress": signal.SIGINT}


def process_of(reader: Reader) -> int:
    said = reader.until("pid ")
    found = re.search(r"pid (\d+)", said)
    assert found is not None, said
    return int(found.group(1))


@pytest.mark.parametrize("kind", list(SERVERS))
def test_a_visit(kind: str, runtime: str, data: Path) -> None:
    site = Site(data, runtime, ["ann", "bob"], abandon_after=5)
    with site.serve(kind) as server:
        stays = look_around(server)
        # The server ends, and takes its runs with it: on the runtime, and in the list.
        code = server.end(ENDED_BY.get(kind, signal.SIGTERM))
        assert code in (0, -signal.SIGTERM), server.log
        wait_until_ended(stays)
        assert site.statuses() == {"done": 1, "cancelled": 2, "lost": 1}
        assert [reason for (reason,) in site.query("select reason from runs_run where status = 'lost'")] == [
            "The server was stopped or restarted while this was running."
        ]
        assert "Traceback" not in server.log
        assert "Error" not in server.log


def look_around(server: Server) -> int:
    """Does all there is to be done, and returns the process of a run that is left running."""
    ann, bob = server.visitor("ann"), server.visitor("bob")
    for path in ("site.css", "site.js", "icon.svg"):
        assert ann.get(f"/static/runs/{path}").status == 200
    words = "".join(f"word {number}\n" for number in range(1000)).encode()

    # One that somebody leaves: nobody else is watching. One that is cancelled. One that stays.
    left = ann.start(STAYS)
    with ann.read(left) as reader:
        left_process = process_of(reader)
    # None is started before there is time to watch it.
    cancelled = ann.start(STAYS)
    with ann.read(cancelled) as reader:
        cancelled_process = process_of(reader)
        assert bob.cancel(cancelled).status == 404
        assert ann.cancel(cancelled).path == cancelled
        _, end = reader.all()
    assert (end["status"], end["reason"]) == ("cancelled", "Cancelled by ann.")
    wait_until_ended(cancelled_process)

    stays = ann.start(STAYS, alone=True)
    # One with files, which is read from the middle, and again from its beginning.
    prompt = "tail -n 1 $INPUT_DIR/words.txt; sleep 1.2; echo more; cp $INPUT_DIR/words.txt $OUTPUT_DIR/copy.txt"
    run = ann.start(prompt, files=[("words.txt", words)])
    with ann.read(run) as reader:
        reader.until("word 999")
        last = reader.last
    with ann.read(run, **{"Last-Event-ID": last}) as reader:
        rest, end = reader.all()
    with ann.read(run) as reader:
        again, same_end = reader.all()
    assert same_end == end
    rest, again = ([event for event in events if event[0] != "heartbeat"] for events in (rest, again))
    assert again == [("assistant", {"text": "word 999"}), *rest]
    assert rest == [
        ("assistant", {"text": "more"}),
        ("result", {"text": "word 999\nmore\n"}),
    ]
    assert (end["status"], end["reason"], len(end["artifacts"])) == ("done", "", 1)

    artifact = end["artifacts"][0]
    assert artifact["name"] == "copy.txt"
    answer = ann.get(artifact["url"])
    assert answer.body == words
    assert answer.headers["Content-Disposition"] == 'attachment; filename="copy.txt"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for path in (run, run + "events", artifact["url"]):
        assert bob.get(path).status == 404, path
        assert server.visitor().get(path).path == "/login/", path
    assert ann.post("/new/", {"prompt": "echo no"}, csrf=False).status == 403

    wait_until_ended(left_process)
    with ann.read(left) as reader:
        _, end = reader.all()
    assert (end["status"], end["reason"]) == ("cancelled", "Nobody was watching any more for 5 seconds.")
    with ann.read(stays) as reader:
        return process_of(reader)


def test_what_a_killed_server_was_running_is_lost(runtime: str, data: Path) -> None:
    site = Site(data, runtime, ["ann"], lost_after=2)
    with site.serve("gunicorn-gthread", lost_after=60) as server:
        visitor = server.visitor("ann")
        run = visitor.start(STAYS, alone=True)
        with visitor.read(run) as reader:
            process = process_of(reader)
        server.kill()
    # The runtime has noticed by itself.
    wait_until_ended(process)
    assert site.statuses() == {"running": 1}
    with site.serve("gunicorn-gthread") as server:
        visitor = server.visitor("ann")
        when(lambda: ">Lost<" in visitor.get("/").text, "the run to be lost", patience=PATIENCE)
        assert "it was restarted, or has crashed" in visitor.get(run).text
        with visitor.read(run) as reader:
            events, end = reader.all()
    assert [kind for kind, _ in events] == ["assistant"]
    assert end["status"] == "lost"
