"""What is known of runs: all of it is in the database, so that any process can show it, now and after a restart.

A run's states: running, then one of done, failed, cancelled and lost, once and for all. Each change of state is one
UPDATE on condition that the run is still running, so of two that come at once, one has no effect.

The events of a run are numbered from 1 without gaps, by the one process that the run is at work in. A reader that has
seen number 7 goes on with 8, in whichever process.
"""

import datetime
import uuid
from typing import Any, Dict

from django.conf import settings
from django.db import models
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone


class RunQuerySet(models.QuerySet):
    def running(self) -> Any:
        return self.filter(status=Run.Status.RUNNING)

    def mark_lost(self) -> int:
        """Marks as lost what no server process has been heard to work at; returns how many runs that were."""
        now = timezone.now()
        silent = self.running().filter(beat_at__lt=now - datetime.timedelta(seconds=settings.RUNS["LOST_AFTER"]))
        # With nothing to mark, as nearly always, no write has to wait for its turn.
        lost = 0
        for run in silent:
            heard = timezone.localtime(run.beat_at).strftime("%H:%M:%S %Z")
            reason = (
                f"The server that was running it ({run.server_name}) has not been heard of since {heard}: "
                "it was restarted, or has crashed."
            )
            changes = {"status": Run.Status.LOST, "reason": reason, "ended_at": run.beat_at}
            lost += self.running().filter(pk=run.pk, beat_at=run.beat_at).update(**changes)
        return lost


class Run(models.Model):
    class Kind(models.TextChoices):
        QUERY = "query", "Ask the agent"
        COMMANDS = "commands", "Run commands"

    class Status(models.TextChoices):
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        LOST = "lost", "Lost"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="runs")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    prompt = models.TextField()
    #: The files that went with it: `[{"name": …, "size": …}]`.
    inputs = models.JSONField(default=list)
    goes_on_alone = models.BooleanField(default=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.RUNNING)
    #: Why it has this status, in words; empty if it is done.
    reason = models.TextField(blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    #: The process that it is at work in: an id of its own, which no later process has, and what people call it.
    server = models.CharField(max_length=32)
    server_name = models.CharField(max_length=200)
    #: When that process last said that it is at work.
    beat_at = models.DateTimeField(default=timezone.now)
    #: When it last had a reader. Of a new run, until when it is waiting for one.
    watched_at = models.DateTimeField(default=timezone.now)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ("-started_at",)
        indexes = (
            models.Index(fields=["owner", "-started_at"], name="runs_of_owner"),
            models.Index(fields=["status", "beat_at"], name="runs_at_work"),
        )

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        url: str = reverse("run", args=[self.pk])
        return url

    @property
    def title(self) -> str:
        """The first line of what was asked, be it a heading or a comment."""
        lines = [line.strip(" \t#") for line in self.prompt.splitlines()]
        first = next(filter(None, lines), "(empty)")
        return first if len(first) <= 80 else first[:79] + "…"

    @property
    def is_running(self) -> bool:
        return bool(self.status == self.Status.RUNNING)

    @property
    def is_silent(self) -> bool:
        """Whether it seems to be running, but its process has not been heard of for too long."""
        limit = datetime.timedelta(seconds=settings.RUNS["LOST_AFTER"])
        return self.is_running and bool(timezone.now() - self.beat_at > limit)

    @property
    def duration(self) -> datetime.timedelta:
        """How long it took, or has taken so far."""
        took: datetime.timedelta = (self.ended_at or timezone.now()) - self.started_at
        return max(took, datetime.timedelta(0))

    @property
    def cancel_key(self) -> str:
        return f"run-{self.pk}"


class Event(models.Model):
    """Something that a reader of the run sees: a message, some output, a heartbeat, the result."""

    class Kind(models.TextChoices):
        ASSISTANT = "assistant"
        OUTPUT = "output"
        HEARTBEAT = "heartbeat"
        NOTE = "note"
        RESULT = "result"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=10, choices=Kind.choices)
    data = models.JSONField()

    class Meta:
        ordering = ("number",)
        constraints = (models.UniqueConstraint(fields=["run", "number"], name="one_event_of_a_number"),)


class Artifact(models.Model):
    """A file that the run has made, in the site's storage."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="artifacts")
    #: What people call it: its path below the run's directory of results.
    name = models.CharField(max_length=1000)
    #: Where the storage has it.
    stored_as = models.CharField(max_length=1000)
    size = models.BigIntegerField()

    class Meta:
        ordering = ("name",)

    def get_absolute_url(self) -> str:
        url: str = reverse("artifact", args=[self.run_id, self.pk])
        return url

    def as_json(self) -> Dict[str, Any]:
        return {"name": self.name, "size_text": filesizeformat(self.size), "url": self.get_absolute_url()}
