"""The pages: who may see what, what may be sent, and what comes back."""

import datetime
import tempfile
import uuid
from pathlib import Path
from typing import Any, Dict, List
from unittest import mock

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import Client, TestCase, override_settings
from django.utils import timezone

from ..models import Artifact, Event, Run


def make_user(name: str) -> Any:
    user = get_user_model()(username=name)
    user.set_unusable_password()
    user.save()
    return user


def make_run(owner: Any, prompt: str = "echo hello", **fields: Any) -> Run:
    defaults: Dict[str, Any] = {"kind": Run.Kind.QUERY, "server": "elsewhere", "server_name": "process 1 on elsewhere"}
    run: Run = Run.objects.create(owner=owner, prompt=prompt, **{**defaults, **fields})
    return run


class PagesTestCase(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        cls.owner = make_user("owner")
        cls.other = make_user("other")

    def setUp(self) -> None:
        self.client.force_login(self.owner)


class VisitorTests(PagesTestCase):
    def test_nobody_sees_anything_without_logging_in(self) -> None:
        run = make_run(self.owner)
        artifact = Artifact.objects.create(run=run, name="a", stored_as="a", size=1)
        self.client.logout()
        for path in ("/", "/new/", run.get_absolute_url(), f"/runs/{run.pk}/events", artifact.get_absolute_url()):
            response = self.client.get(path)
            self.assertRedirects(response, f"/login/?next={path}", fetch_redirect_response=False)

    def test_what_belongs_to_somebody_else_is_not_found(self) -> None:
        run = make_run(self.other, "echo the other one's")
        artifact = Artifact.objects.create(run=run, name="a", stored_as="a", size=1)
        paths = [run.get_absolute_url(), f"/runs/{run.pk}/events", artifact.get_absolute_url()]
        paths += [f"/runs/{uuid.uuid4()}/"]
        for path in paths:
            self.assertEqual(self.client.get(path).status_code, 404, path)
        self.assertEqual(self.client.post(f"/runs/{run.pk}/cancel").status_code, 404)
        run.refresh_from_db()
        self.assertIsNone(run.cancel_requested_at)
        self.assertNotContains(self.client.get("/"), "the other one")
        self.assertNotContains(self.client.get(f"/new/?like={run.pk}"), "the other one")
        # Not by a run of one's own with the artifact of the other, either.
        own = make_run(self.owner)
        self.assertEqual(self.client.get(f"/runs/{own.pk}/artifacts/{artifact.pk}").status_code, 404)

    def test_what_changes_something_needs_a_post_and_the_token(self) -> None:
        run = make_run(self.owner)
        self.assertEqual(self.client.get(f"/runs/{run.pk}/cancel").status_code, 405)
        self.assertEqual(self.client.get("/logout/").status_code, 405)
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(self.owner)
        for path in (f"/runs/{run.pk}/cancel", "/new/", "/logout/"):
            self.assertEqual(strict.post(path, {"kind": "query", "prompt": "x"}).status_code, 403, path)

    def test_every_page_says_what_it_may_load(self) -> None:
        for path in ("/", "/new/", make_run(self.owner).get_absolute_url(), "/nowhere/"):
            response = self.client.get(path)
            policy = response.headers["Content-Security-Policy"]
            self.assertIn("default-src 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(response.headers["X-Content-Type-Options"], "nosniff")
            self.assertEqual(response.headers["X-Frame-Options"], "DENY")
            # Nothing of it works only without the policy.
            for forbidden in ("<style", " style=", " onclick=", "<script>"):
                self.assertNotIn(forbidden, response.content.decode(), path)

    def test_there_is_no_migration_missing(self) -> None:
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)


class ListTests(PagesTestCase):
    def test_it_begins_empty(self) -> None:
        self.assertContains(self.client.get("/"), "Nothing has run yet.")

    def test_runs_have_their_status_and_duration(self) -> None:
        start = timezone.now()
        made: List[Any] = [
            (Run.Status.DONE, datetime.timedelta(seconds=1.25), "1.2 s"),
            (Run.Status.FAILED, datetime.timedelta(seconds=75), "1 min 15 s"),
            (Run.Status.CANCELLED, datetime.timedelta(hours=2, minutes=3), "2 h 03 min"),
        ]
        for status, took, _ in made:
            make_run(self.owner, f"echo {status.value}", status=status, started_at=start, ended_at=start + took)
        page = self.client.get("/")
        for status, _, text in made:
            self.assertContains(page, status.label)
            self.assertContains(page, text)

    def test_many_runs_have_pages(self) -> None:
        now = timezone.now()
        for number in range(21):
            started = now - datetime.timedelta(minutes=number)
            make_run(self.owner, f"echo number-{number};", status=Run.Status.DONE, started_at=started, ended_at=now)
        first = self.client.get("/")
        self.assertContains(first, "Page 1 of 2")
        self.assertContains(first, "number-0;")
        self.assertNotContains(first, "number-20;")
        self.assertContains(self.client.get("/?page=2"), "number-20;")

    def test_a_silent_run_is_lost(self) -> None:
        silent = timezone.now() - datetime.timedelta(seconds=settings.RUNS["LOST_AFTER"] + 1)
        lost, alive = make_run(self.owner, beat_at=silent), make_run(self.owner)
        self.assertContains(self.client.get("/"), "Lost")
        lost.refresh_from_db()
        alive.refresh_from_db()
        self.assertEqual((lost.status, alive.status), (Run.Status.LOST, Run.Status.RUNNING))
        self.assertIn("process 1 on elsewhere", lost.reason)
        self.assertEqual(lost.ended_at, silent)


class StartTests(PagesTestCase):
    def start(self, **data: Any) -> Any:
        with mock.patch("runs.views.start") as started:
            response = self.client.post("/new/", {"kind": "query", "prompt": "echo hello", **data})
        self.job: Any = started.call_args[0][0] if started.called else None
        return response

    def test_a_run_is_started_with_what_was_given(self) -> None:
        files = [SimpleUploadedFile("a.csv", b"1,2\r\n"), SimpleUploadedFile("../../b c.txt", b"\x00\xff")]
        response = self.start(kind="commands", prompt="ls\r\npwd", files=files, goes_on_alone="on")
        self.assertRedirects(response, f"/runs/{self.job.run.pk}/", fetch_redirect_response=False)
        self.assertEqual(self.job.files, [("a.csv", b"1,2\r\n"), ("b c.txt", b"\x00\xff")])
        self.assertEqual(self.job.site, "http://testserver/")
        run = self.job.run
        self.assertEqual((run.kind, run.prompt, run.goes_on_alone), ("commands", "ls\npwd", True))
        self.assertEqual((run.owner, run.inputs[0]), (self.owner, {"name": "a.csv", "size": 5}))

    def test_what_cannot_be_started_says_why(self) -> None:
        twice = [SimpleUploadedFile("a", b"1"), SimpleUploadedFile("a", b"2")]
        wrong: Any = [
            ({"prompt": " "}, "This field is required."),
            ({"kind": "dance"}, "Select a valid choice."),
            ({"prompt": "a\x00b"}, "Null characters are not allowed."),
            ({"prompt": "x" * 100_001}, "at most 100000 characters"),
            ({"files": twice}, "two files with the name"),
            ({"files": [SimpleUploadedFile("a", b"")]}, "file is empty"),
        ]
        for data, text in wrong:
            with self.subTest(text):
                response = self.start(**data)
                self.assertContains(response, text, status_code=400)
                self.assertIsNone(self.job)

    @override_settings(RUNS={**settings.RUNS, "MAX_INPUT": 10, "AT_ONCE": 1})
    def test_there_are_limits(self) -> None:
        response = self.start(files=[SimpleUploadedFile("a", b"123456"), SimpleUploadedFile("b", b"123456")])
        self.assertContains(response, "too large", status_code=400)
        make_run(self.other)
        self.assertEqual(self.start().status_code, 302)
        make_run(self.owner)
        self.assertContains(self.start(), "1 runs at once", status_code=400)

    def test_one_like_an_earlier_one(self) -> None:
        run = make_run(self.owner, "echo <again>", kind=Run.Kind.COMMANDS, goes_on_alone=True)
        page = self.client.get(f"/new/?like={run.pk}")
        self.assertContains(page, "echo &lt;again&gt;</textarea>")
        self.assertContains(page, "checked", count=2)
        self.assertEqual(self.client.get("/new/?like=nonsense").status_code, 200)


class RunPageTests(PagesTestCase):
    def test_what_was_said_is_shown_and_never_markup(self) -> None:
        evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
        run = make_run(self.owner, evil, status=Run.Status.FAILED, reason=evil, ended_at=timezone.now())
        run.inputs = [{"name": evil, "size": 1}]
        run.save()
        Artifact.objects.create(run=run, name=evil, stored_as="x", size=1)
        output = {"stream": "stderr", "command": evil, "text": evil}
        for number, (kind, data) in enumerate(
            [("assistant", {"text": evil}), ("output", output), ("note", {"text": evil}), ("result", {"text": evil})]
        ):
            Event.objects.create(run=run, number=number + 1, kind=kind, data=data)
        page = self.client.get(run.get_absolute_url())
        self.assertContains(page, "&lt;script&gt;alert(1)", count=12)
        self.assertNotContains(page, "<script>")
        self.assertNotContains(page, "<img")

    def test_pieces_of_output_become_blocks(self) -> None:
        run = make_run(self.owner)
        pieces = [("stdout", "a", "1"), ("stdout", "a", "2"), ("stderr", "a", "3"), ("stdout", "b", "4")]
        for number, (stream, command, text) in enumerate(pieces):
            data = {"stream": stream, "command": command, "text": text}
            Event.objects.create(run=run, number=number + 1, kind=Event.Kind.OUTPUT, data=data)
        page = self.client.get(run.get_absolute_url())
        for text in ("<pre>12</pre>", "<pre>3</pre>", "<pre>4</pre>", "$ a · stderr", "events?after=4"):
            self.assertContains(page, text)

    def test_cancel_asks_for_it(self) -> None:
        run = make_run(self.owner)
        with mock.patch("runs.views.request_cancel") as asked:
            self.assertRedirects(self.client.post(f"/runs/{run.pk}/cancel"), run.get_absolute_url())
        asked.assert_called_once_with(run.cancel_key, self.owner)
        self.assertContains(self.client.get(run.get_absolute_url()), "Cancelling")
        Run.objects.update(status=Run.Status.DONE, ended_at=timezone.now())
        with mock.patch("runs.views.request_cancel") as asked:
            self.assertRedirects(self.client.post(f"/runs/{run.pk}/cancel"), run.get_absolute_url())
        asked.assert_not_called()


class ArtifactTests(PagesTestCase):
    def test_it_is_saved_and_never_shown(self) -> None:
        with tempfile.TemporaryDirectory() as directory, override_settings(MEDIA_ROOT=directory):
            stored_as = default_storage.save("runs/1/page.html", ContentFile(b"<script>alert(1)</script>"))
            run = make_run(self.owner)
            artifact = Artifact.objects.create(run=run, name="pages/page.html", stored_as=stored_as, size=25)
            response = self.client.get(artifact.get_absolute_url())
            self.assertEqual(b"".join(response.streaming_content), b"<script>alert(1)</script>")
            self.assertEqual(response.headers["Content-Disposition"], 'attachment; filename="page.html"')
            self.assertEqual(response.headers["Content-Type"], "application/octet-stream")
            self.assertEqual(response.headers["X-Content-Type-Options"], "nosniff")
            self.assertIn("sandbox", response.headers["Content-Security-Policy"])
            Path(directory, stored_as).unlink()
            self.assertEqual(self.client.get(artifact.get_absolute_url()).status_code, 404)
