"""A run at work: its thread, what it asks of the runtime, and how it ends in words.

Threads: `start` is called in a request and starts the run's thread, in which all the rest happens. That is no daemon
thread: at the end of the process the interpreter waits for it, and it cancels its run on the runtime before it ends.
"""

import datetime
import logging
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Tuple

from django.conf import settings

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadError,
    CancelledException,
    CommandFailedError,
    CommandInterface,
    ConnectionLostError,
    ProtocolError,
    RuntimeConnectionError,
    RunTimeoutError,
    RuntimeUseSession,
)
from runtimeuse_sync.django import cancellable, get_client, storage_uploads

from .models import Artifact, Event, Run
from .recorder import Ending, Recorder, Work, recorder

logger = logging.getLogger(__name__)

SYSTEM_PROMPT = """\
The files that the user sent along are in the directory $INPUT_DIR ({place}/in).
Write files that the user shall get into the directory $OUTPUT_DIR ({place}/out)."""


class MustEnd(Exception):
    """The run must end, and nothing of it is in flight just now."""


@dataclass(frozen=True)
class Job:
    """What a run's thread needs to know; it does not read the database.

    Attributes:
        run: The run's row, as it was at the start.
        files: The files that go with it: name and contents.
        site: The site's own base URL, below which the runtime uploads artifacts.
    """

    run: Run
    files: List[Tuple[str, bytes]]
    site: str


def start(job: Job) -> None:
    """Starts a run whose row is not saved yet, in a thread of its own.

    Raises:
        RuntimeError: No thread can be started. The run has failed then, and says so.
    """
    clerk, run = recorder(), job.run
    run.server, run.server_name = clerk.server, clerk.server_name
    run.watched_at = run.started_at + datetime.timedelta(seconds=settings.RUNS["READER_WITHIN"])
    run.save(force_insert=True)
    # Other pages have shown the run since it was saved, and no other run has its key: an earlier request counts.
    is_cancelled = cancellable(run.cancel_key, run.owner, include_earlier=True)
    work = Work(run.pk, goes_on_alone=run.goes_on_alone)
    clerk.begin(work)
    thread = threading.Thread(
        target=perform,
        args=(job, work, clerk, is_cancelled),
        name=f"runtimeuse-site-run-{run.pk}",
        # Said explicitly, as it would be what the server's thread is.
        daemon=False,
    )
    try:
        thread.start()
    except RuntimeError:
        clerk.finish(work, Ending(Run.Status.FAILED, "The server is too busy: it could not start a thread."))
        raise


def perform(job: Job, work: Work, clerk: Recorder, is_cancelled: Callable[[], bool]) -> None:
    """Performs a run, from its first message to its end in the database."""

    def must_end() -> bool:
        if not work.must_end() and is_cancelled():
            work.end(Ending(Run.Status.CANCELLED, f"Cancelled by {job.run.owner.get_username()}."))
        return work.ending is not None

    files: List[Any] = []
    try:
        _talk(job, work, clerk, must_end, files)
        ending = Ending(Run.Status.DONE)
    except (CancelledException, MustEnd) as error:
        ending = work.ending or Ending(Run.Status.CANCELLED, str(error))
    except Exception as error:
        ending = work.ending or Ending(Run.Status.FAILED, storable(in_words(error)))
    # Whatever else it is, such as the interpreter's end, must not leave the run as if it were at work.
    except BaseException as error:
        clerk.finish(work, Ending(Run.Status.LOST, f"The server ended it: {type(error).__name__}."))
        raise
    artifacts = [
        Artifact(run_id=job.run.pk, name=storable(file.name), stored_as=file.key, size=file.size) for file in files
    ]
    clerk.finish(work, Ending(ending.status, ending.reason, tuple(artifacts)))
    logger.info("run %s: %s %s", job.run.pk, ending.status, ending.reason)


def _talk(job: Job, work: Work, clerk: Recorder, must_end: Callable[[], bool], files: List[Any]) -> None:
    """Asks the runtime. Files that have arrived are added to the list, also if it fails: they are worth something."""
    run = job.run
    place = f"runs/{run.pk}"
    uploads = storage_uploads(job.site, prefix=place)
    try:
        with uploads, get_client().session() as session:
            _prepare(session, job, place, must_end)
            _stream(session, run, place, uploads, must_end, Scribe(work, clerk))
    finally:
        files.extend(uploads.files)


def _prepare(session: RuntimeUseSession, job: Job, place: str, must_end: Callable[[], bool]) -> None:
    """Puts the files into the sandbox."""
    session.run(f"mkdir -p {place}/in {place}/out", cancel_when=must_end)
    for name, contents in job.files:
        if must_end():
            raise MustEnd
        session.files.write(f"{place}/in/{name}", contents)


def _stream(
    session: RuntimeUseSession, run: Run, place: str, uploads: Any, must_end: Callable[[], bool], scribe: "Scribe"
) -> None:
    common: Dict[str, Any] = {
        "cancel_when": must_end,
        "timeout": settings.RUNS["TIMEOUT"],
        "source_id": str(run.pk),
        "artifacts_dirs": [f"{place}/out"],
        "on_artifact_upload_request": uploads,
    }
    if run.kind == Run.Kind.QUERY:
        env = {"INPUT_DIR": f"{place}/in", "OUTPUT_DIR": f"{place}/out"}
        system_prompt = SYSTEM_PROMPT.format(place=place)
        with session.stream(run.prompt, system_prompt=system_prompt, agent_env=env, **common) as answering:
            for message in answering:
                scribe.write(message)
            result = answering.result
            scribe.add(Event.Kind.RESULT, {"text": str(result)})
        return
    env = {"INPUT_DIR": "in", "OUTPUT_DIR": "out"}
    commands = [CommandInterface(line, cwd=place, env=env) for line in run.prompt.splitlines() if line.strip()]
    with session.stream_commands(commands, **common) as running:
        for message in running:
            scribe.write(message)


class Scribe:
    """Turns the messages of a run into its events. From some length on, output is left out, and that is said once."""

    def __init__(self, work: Work, clerk: Recorder) -> None:
        self._work = work
        self._clerk = clerk
        self._left = settings.RUNS["MAX_OUTPUT"]

    def write(self, message: Any) -> None:
        if message.message_type == "heartbeat_message":
            self.add(Event.Kind.HEARTBEAT, {"phase": message.phase, "elapsed_ms": message.elapsed_ms})
        elif message.message_type == "assistant_message":
            self.add(Event.Kind.ASSISTANT, {"text": message.text})
        else:
            data = {"stream": message.stream, "command": message.command, "text": message.text}
            self.add(Event.Kind.OUTPUT, data)

    def add(self, kind: str, data: Mapping[str, Any]) -> None:
        text = data.get("text")
        if text is None:
            self._clerk.record(self._work, kind, dict(data))
            return
        if self._left <= 0:
            return
        kept = storable(text[: self._left])
        self._left -= len(text)
        self._clerk.record(self._work, kind, {**data, "text": kept}, len(kept))
        if self._left <= 0:
            note = f"More than {settings.RUNS['MAX_OUTPUT']:,} characters of output: the rest is not kept."
            self._clerk.record(self._work, Event.Kind.NOTE, {"text": note})


def storable(text: str) -> str:
    """Returns a text as databases take it: without NULs, and without halves of surrogate pairs."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def in_words(error: Exception) -> str:
    """Returns what to tell the user of what went wrong."""
    if isinstance(error, CommandFailedError):
        return f"The command “{error.command}” failed with exit code {error.exit_code}."
    if isinstance(error, RunTimeoutError):
        return f"It took longer than {settings.RUNS['TIMEOUT']:g} seconds, and was stopped."
    if isinstance(error, ConnectionLostError):
        return "The connection to the agent runtime was lost."
    if isinstance(error, RuntimeConnectionError):
        return "The agent runtime cannot be reached. Is it running?"
    if isinstance(error, ArtifactUploadError):
        return "It was done, but not all of its files arrived: " + ", ".join(error.filepaths)
    if isinstance(error, ProtocolError):
        return "The agent runtime sent something that cannot be understood."
    if isinstance(error, AgentRuntimeError):
        return f"The agent failed: {error.error}"
    if isinstance(error, OSError):
        return f"A file could not be sent: {error}"
    logger.error("a run has failed", exc_info=error)
    return "Something is wrong with this site; its log says what."
