"""Runs from their start to their end, with the embedded runtime, and how they are watched."""

import json
import tempfile
import threading
import time
import uuid
from typing import Any, ClassVar, Dict, List, Tuple
from unittest import mock

from django.conf import settings
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DataError, OperationalError
from django.test import Client, SimpleTestCase, TransactionTestCase, override_settings
from django.utils import timezone

from runtimeuse_sync.django import RuntimeUseTestMixin

from ..models import Artifact, Event, Run
from ..recorder import SHUT_DOWN, Ending, Recorder, Work, recorder
from .test_views import make_run, make_user

#: For what must come in the end; only a failure waits for it.
PATIENCE = 60.0


def script(invocation: Any, sender: Any) -> str:
    """An agent: it says the words of its prompt, and stays when it is told to."""
    for word in invocation.user_prompt.split():
        if word == "stay":
            invocation.cancelled.wait(PATIENCE)
        elif word == "fail":
            raise ValueError("that went wrong")
        else:
            sender.send_assistant_message([word])
    return "the result"


def quick() -> Any:
    return override_settings(
        RUNS={**settings.RUNS, "ABANDON_AFTER": 60, "LOST_AFTER": 60},
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    )


def events_of(client: Client, run: Run, query: str = "", **headers: str) -> List[Tuple[str, Dict[str, Any]]]:
    """Returns all events of a run from one on. Streams end after a while, and then a browser connects again, too."""
    found: List[Tuple[str, Dict[str, Any]]] = []
    while not found or found[-1][0] != "end":
        response = client.get(f"/runs/{run.pk}/events{query}", **headers)
        for block in b"".join(response.streaming_content).decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "id" in fields:
                headers["HTTP_LAST_EVENT_ID"] = fields["id"]
            if "event" in fields:
                found.append((fields["event"], json.loads(fields["data"])))
    return found


def wait_for_end(run: Run) -> Run:
    """Returns when the threads of all runs, and the recorder's, have ended."""
    end_at = time.monotonic() + PATIENCE
    for thread in threading.enumerate():
        if thread.name.startswith("runtimeuse-site-"):
            thread.join(max(0.0, end_at - time.monotonic()))
            assert not thread.is_alive(), thread
    run.refresh_from_db()
    return run


@quick()
class RunTests(RuntimeUseTestMixin, TransactionTestCase):
    runtimeuse_agent = staticmethod(script)
    runtimeuse_settings: ClassVar[Dict[str, Any]] = {"artifact_settle": 0.1, "end_session_delay": 0.1}

    def setUp(self) -> None:
        super().setUp()
        cache.clear()
        self.owner = make_user("owner")
        self.client.force_login(self.owner)

    def start(self, prompt: str, **data: Any) -> Run:
        response = self.client.post("/new/", {"kind": "query", "prompt": prompt, **data})
        self.assertEqual(response.status_code, 302, response.content)
        run: Run = Run.objects.get()
        return run

    def said(self, run: Run) -> List[str]:
        return [event.data["text"] for event in run.events.filter(kind=Event.Kind.ASSISTANT)]

    def wait_for_word(self, run: Run, word: str) -> None:
        end_at = time.monotonic() + PATIENCE
        while word not in self.said(run):
            assert time.monotonic() < end_at
            time.sleep(0.02)

    def test_it_is_recorded_from_start_to_end(self) -> None:
        run = wait_for_end(self.start("one two"))
        self.assertEqual((run.status, run.reason), (Run.Status.DONE, ""))
        self.assertEqual(self.said(run), ["one", "two"])
        numbers = [event.number for event in run.events.all()]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertContains(self.client.get(run.get_absolute_url()), "the result")

    def test_two_readers_see_the_same_and_one_may_begin_in_the_middle(self) -> None:
        run = self.start("one two three")
        path = f"/runs/{run.pk}/events"
        first = events_of(self.client, run)
        texts = [data["text"] for _, data in first if "text" in data]
        self.assertEqual(texts, ["one", "two", "three", "the result"])
        self.assertEqual((first[-1][0], first[-1][1]["status"]), ("end", "done"))
        wait_for_end(run)
        self.assertEqual(events_of(self.client, run), first)
        self.assertEqual(events_of(self.client, run, "?after=2"), first[2:])
        self.assertEqual(events_of(self.client, run, "?after=2", HTTP_LAST_EVENT_ID="3"), first[3:])
        for wrong in ("x", "-1", "1.5", "9" * 30, "²"):
            self.assertEqual(self.client.get(path, {"after": wrong}).status_code, 400, wrong)

    def test_it_is_cancelled_by_its_owner(self) -> None:
        run = self.start("one stay two")
        self.wait_for_word(run, "one")
        self.client.post(f"/runs/{run.pk}/cancel")
        run = wait_for_end(run)
        self.assertEqual((run.status, run.reason), (Run.Status.CANCELLED, "Cancelled by owner."))
        self.assertEqual(self.said(run), ["one"])

    def test_it_is_cancelled_from_the_moment_when_it_is_in_the_list(self) -> None:
        other = Client()
        other.force_login(self.owner)
        save = Run.save

        def saved_and_cancelled(run: Run, **keywords: Any) -> None:
            save(run, **keywords)
            other.post(f"/runs/{run.pk}/cancel")

        with mock.patch.object(Run, "save", saved_and_cancelled):
            run = self.start("stay")
        self.assertEqual(wait_for_end(run).status, Run.Status.CANCELLED)

    def test_what_goes_wrong_is_told_in_words(self) -> None:
        run = wait_for_end(self.start("one fail"))
        self.assertEqual((run.status, run.reason), (Run.Status.FAILED, "The agent failed: that went wrong"))

    def test_commands_run_in_their_own_directory_with_the_files(self) -> None:
        commands = "cat in/numbers.txt\necho oops >&2; exit 3\necho never"
        numbers = "".join(f"{number}\n" for number in range(20_000))
        file = SimpleUploadedFile("numbers.txt", numbers.encode())
        run = wait_for_end(self.start(commands, kind="commands", files=[file]))
        self.assertEqual(run.status, Run.Status.FAILED)
        self.assertEqual(run.reason, "The command “echo oops >&2; exit 3” failed with exit code 3.")
        output = [event.data for event in run.events.filter(kind=Event.Kind.OUTPUT)]
        self.assertEqual("".join(data["text"] for data in output if data["stream"] == "stdout"), numbers)
        self.assertEqual("".join(data["text"] for data in output if data["stream"] == "stderr"), "oops\n")

    @override_settings(RUNS={**settings.RUNS, "MAX_OUTPUT": 10})
    def test_too_much_output_is_left_out_and_that_is_said(self) -> None:
        run = wait_for_end(self.start("123456 789012 345678"))
        self.assertEqual(self.said(run), ["123456", "7890"])
        notes = [event.data["text"] for event in run.events.filter(kind=Event.Kind.NOTE)]
        self.assertEqual(notes, ["More than 10 characters of output: the rest is not kept."])

    @override_settings(RUNS={**settings.RUNS, "TIMEOUT": 0.5})
    def test_it_takes_no_longer_than_it_may(self) -> None:
        run = wait_for_end(self.start("stay"))
        self.assertEqual(
            (run.status, run.reason), (Run.Status.FAILED, "It took longer than 0.5 seconds, and was stopped.")
        )

    @override_settings(RUNS={**settings.RUNS, "READER_WITHIN": 0, "ABANDON_AFTER": 0.2, "LOST_AFTER": 60})
    def test_without_readers_it_ends_unless_it_goes_on_alone(self) -> None:
        run = wait_for_end(self.start("one stay"))
        self.assertEqual(run.status, Run.Status.CANCELLED)
        self.assertEqual(run.reason, "Nobody was watching any more for 0.2 seconds.")

    @override_settings(RUNS={**settings.RUNS, "READER_WITHIN": 3600, "ABANDON_AFTER": 0.2, "LOST_AFTER": 60})
    def test_a_reader_counts_however_short_its_stay(self) -> None:
        run = self.start("one stay")
        with recorder().reading(run.pk):
            pass
        self.assertEqual(wait_for_end(run).reason, "Nobody was watching any more for 0.2 seconds.")

    @override_settings(RUNS={**settings.RUNS, "READER_WITHIN": 0, "ABANDON_AFTER": 0, "LOST_AFTER": 60})
    def test_it_goes_on_alone_if_it_shall(self) -> None:
        run = self.start("one stay", goes_on_alone="on")
        self.wait_for_word(run, "one")
        # Two signs of life, at each of which it would be ended.
        first = Run.objects.get().beat_at
        while (Run.objects.get().beat_at - first).total_seconds() < 2:
            time.sleep(0.05)
        self.assertTrue(Run.objects.get().is_running)
        self.client.post(f"/runs/{run.pk}/cancel")
        self.assertEqual(wait_for_end(run).reason, "Cancelled by owner.")

    def test_a_run_that_others_hold_for_lost_ends(self) -> None:
        run = self.start("one stay", goes_on_alone="on")
        self.wait_for_word(run, "one")
        Run.objects.update(status=Run.Status.LOST, reason="lost elsewhere", ended_at=timezone.now())
        run = wait_for_end(run)
        self.assertEqual((run.status, run.reason), (Run.Status.LOST, "lost elsewhere"))

    def test_a_run_that_was_removed_ends(self) -> None:
        run = self.start("one stay", goes_on_alone="on")
        self.wait_for_word(run, "one")
        self.owner.delete()
        with self.assertRaises(Run.DoesNotExist):
            wait_for_end(run)

    def test_the_end_of_the_process_ends_it(self) -> None:
        run = self.start("one stay", goes_on_alone="on")
        self.wait_for_word(run, "one")
        with mock.patch("threading.main_thread", lambda: threading.Thread()):
            run = wait_for_end(run)
        self.assertEqual((run.status, run.reason), (Run.Status.LOST, SHUT_DOWN))

    def test_a_server_that_shuts_down_ends_it_and_begins_no_other(self) -> None:
        # A recorder of its own: it takes nothing any more.
        with mock.patch("runs.recorder._of_process", (None, threading.Lock())):
            run = self.start("one stay", goes_on_alone="on")
            self.wait_for_word(run, "one")
            self.assertTrue(recorder().shut_down(PATIENCE))
            self.client.post("/new/", {"kind": "query", "prompt": "stay", "goes_on_alone": "on"})
            wait_for_end(run)
        for run in Run.objects.all():
            self.assertEqual((run.status, run.reason), (Run.Status.LOST, SHUT_DOWN))

    def test_an_outage_of_the_database_is_waited_out(self) -> None:
        create = Event.objects.bulk_create
        failures = [OperationalError("database is locked")]

        def fails_once(*arguments: Any, **keywords: Any) -> Any:
            if failures:
                raise failures.pop()
            return create(*arguments, **keywords)

        with mock.patch.object(Event.objects, "bulk_create", fails_once), self.assertLogs("runs.recorder", "WARNING"):
            run = wait_for_end(self.start("one two"))
        self.assertEqual((run.status, self.said(run)), (Run.Status.DONE, ["one", "two"]))

    def test_what_was_written_before_its_answer_was_lost_is_there_once(self) -> None:
        write = Recorder._write
        failures = [OperationalError("the connection was lost")]

        def written_and_then_fails_once(recorder: Recorder, entries: List[Any], *others: Any) -> None:
            write(recorder, entries, *others)
            if entries and failures:
                raise failures.pop()

        with mock.patch.object(Recorder, "_write", written_and_then_fails_once):
            with self.assertLogs("runs.recorder", "WARNING"):
                run = wait_for_end(self.start("one two"))
        self.assertEqual((run.status, self.said(run), failures), (Run.Status.DONE, ["one", "two"], []))

    @override_settings(RUNS={**settings.RUNS, "LOST_AFTER": 2, "ABANDON_AFTER": 60})
    def test_files_are_recorded_though_another_process_has_recorded_some_meanwhile(self) -> None:
        run, other = make_run(self.owner), make_run(self.owner)
        clerk, create = Recorder(), Artifact.objects.bulk_create
        Run.objects.update(server=clerk.server)
        tries: List[int] = []

        def rolled_back_once(artifacts: Any, **keywords: Any) -> Any:
            tries.append(1)
            if len(tries) > 1:
                Artifact(run=other, name="b", stored_as="b", size=1).save()
            create(artifacts, **keywords)
            if len(tries) == 1:
                raise OperationalError("the connection was lost")

        work = Work(run.pk, goes_on_alone=True)
        with mock.patch.object(Artifact.objects, "bulk_create", rolled_back_once):
            with self.assertLogs("runs.recorder", "WARNING"):
                clerk.begin(work)
                clerk.finish(work, Ending(Run.Status.DONE, "", (Artifact(run=run, name="a", stored_as="a", size=1),)))
        self.assertEqual(wait_for_end(run).status, Run.Status.DONE)
        self.assertEqual([artifact.name for artifact in run.artifacts.all()], ["a"])

    @override_settings(RUNS={**settings.RUNS, "LOST_AFTER": 0.2, "ABANDON_AFTER": 60})
    def test_a_database_that_stays_away_ends_the_run(self) -> None:
        run = make_run(self.owner)
        clerk, work = Recorder(), Work(run.pk, goes_on_alone=True)
        with mock.patch.object(Recorder, "_write", side_effect=OperationalError), self.assertLogs("runs", "ERROR"):
            clerk.begin(work)
            clerk.record(work, Event.Kind.NOTE, {"text": "x"})
            while not work.must_end():
                time.sleep(0.02)
            clerk.finish(work, Ending(Run.Status.DONE))
        self.assertEqual(work.ending, Ending(Run.Status.LOST, "The database could not be written to."))
        wait_for_end(run)

    def test_what_the_database_refuses_ends_no_other_run(self) -> None:
        create = Event.objects.bulk_create

        def refuses(events: Any, **keywords: Any) -> Any:
            if any(event.data.get("text") == "refused" for event in events):
                raise DataError("unsupported Unicode escape sequence")
            return create(events, **keywords)

        good, bad = make_run(self.owner), make_run(self.owner)
        clerk = Recorder()
        Run.objects.update(server=clerk.server)
        works = {run: Work(run.pk, goes_on_alone=True) for run in (good, bad)}
        with mock.patch.object(Event.objects, "bulk_create", refuses), self.assertLogs("runs.recorder", "ERROR"):
            # Together, so that they are in one transaction.
            with clerk._state:
                for run, work in works.items():
                    clerk.begin(work)
                    clerk.record(work, Event.Kind.NOTE, {"text": "refused" if run == bad else "fine"})
            while not works[bad].must_end():
                time.sleep(0.02)
            for work in works.values():
                clerk.finish(work, work.ending or Ending(Run.Status.DONE))
        self.assertEqual((wait_for_end(good).status, good.events.count()), (Run.Status.DONE, 1))
        self.assertEqual((wait_for_end(bad).status, bad.events.count()), (Run.Status.LOST, 0))


@override_settings(RUNTIMEUSE={"default": {"WS_URL": "ws://127.0.0.1:9", "MODEL": "any", "CONNECT_TIMEOUT": 0.2}})
@quick()
class NoRuntimeTests(TransactionTestCase):
    def test_it_says_so(self) -> None:
        client = Client()
        client.force_login(make_user("owner"))
        client.post("/new/", {"kind": "query", "prompt": "echo hello"})
        run = wait_for_end(Run.objects.get())
        self.assertEqual(
            (run.status, run.reason), (Run.Status.FAILED, "The agent runtime cannot be reached. Is it running?")
        )


class CacheTests(SimpleTestCase):
    def test_requests_to_cancel_are_not_lost_where_much_is_in_the_cache(self) -> None:
        # Django removes entries at random when there are too many: three for each file that a run makes.
        with tempfile.TemporaryDirectory() as directory:
            given = {**settings.CACHES["default"], "LOCATION": directory}
            with override_settings(CACHES={"default": given}):
                for number in range(400):
                    cache.set(f"entry-{number}", number)
                self.assertEqual(len(cache.get_many([f"entry-{number}" for number in range(400)])), 400)


class RecorderTests(TransactionTestCase):
    def test_there_is_one_and_it_rests_without_work(self) -> None:
        self.assertIs(recorder(), recorder())
        with recorder().reading(uuid.uuid4()):
            self.assertTrue(any(thread.name == "runtimeuse-site-recorder" for thread in threading.enumerate()))
        wait_for_end(make_run(make_user("owner")))
        self.assertFalse(any(thread.name == "runtimeuse-site-recorder" for thread in threading.enumerate()))
