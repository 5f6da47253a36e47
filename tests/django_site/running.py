"""The example site as its servers run it: its data, its users, and the processes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple
from urllib.parse import urlsplit

import psutil

from ..support.processes import killed_in_the_end
from ..support.servers import free_port
from ..support.threads import when
from .browsing import Visitor

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "examples" / "django_site"

#: For what must come in the end; only a failure waits for it.
PATIENCE = 60.0

#: Makes the database and the users, and prints the session of each.
SET_UP = """
import json, sys
import django
django.setup()
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
call_command("migrate", verbosity=0)
sessions = {}
for name in sys.argv[1:]:
    user = get_user_model()(username=name)
    # Only who logs in by the form needs one: to hash it takes its time.
    user.set_password(name + " secret") if name == "browser" else user.set_unusable_password()
    user.save()
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    sessions[name] = session.session_key
print(json.dumps(sessions))
"""

#: How each server is started; `{port}` is its port.
SERVERS: Dict[str, List[str]] = {
    "runserver": ["manage.py", "runserver", "--noreload", "127.0.0.1:{port}"],
    "gunicorn-sync": ["-m", "gunicorn", "--worker-class", "sync", "--workers", "2"],
    "gunicorn-gthread": [
        "-m",
        "gunicorn",
        "--worker-class",
        "gthread",
        "--workers",
        "2",
        "--threads",
        "8",
        "--preload",
    ],
    "gunicorn-gevent": ["-m", "gunicorn", "--worker-class", "gevent", "--workers", "1"],
    "waitress": ["-m", "waitress", "--listen", "127.0.0.1:{port}", "--threads", "12", "config.wsgi:application"],
    "uvicorn": ["-m", "uvicorn", "--port", "{port}", "--log-level", "warning", "config.asgi:application"],
}


class Site:
    """The site's data and users; `serve` starts a server for it.

    Attributes:
        data: Its data directory.
        sessions: The session key of each user.
    """

    def __init__(self, data: Path, runtime_url: str, users: List[str], **settings: object) -> None:
        self.data = data
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(SITE)]),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "RUNTIMEUSE_WS_URL": runtime_url,
            "SITE_DATA": str(data),
            # Much slower than people are, as the machine may be busy.
            "SITE_LOST_AFTER": "45",
            **{f"SITE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        made = subprocess.run(
            [sys.executable, "-c", SET_UP, *users], env=self._environment, cwd=SITE, stdout=subprocess.PIPE, check=True
        )
        self.sessions: Dict[str, str] = json.loads(made.stdout)

    @contextlib.contextmanager
    def serve(
        self, kind: str, *options: str, application: str = "config.wsgi:application", **settings: object
    ) -> Iterator[Server]:
        """Runs the site under a server; it is killed in the end, if it has not ended before."""
        environment = {**self._environment, **{f"SITE_{name.upper()}": str(value) for name, value in settings.items()}}
        log = self.data / f"{kind}.log"
        with free_port() as port, log.open("ab") as output:
            command = [sys.executable, *(word.format(port=port) for word in SERVERS[kind]), *options]
            if kind.startswith("gunicorn"):
                command += ["--bind", f"127.0.0.1:{port}", "--worker-tmp-dir", str(self.data)]
                # It may be killed, and would leave a socket of its own behind.
                command += ["--no-control-socket", application]
            process = subprocess.Popen(command, cwd=SITE, env=environment, stdout=output, stderr=output)
            with killed_in_the_end(process):
                server = Server(self, process, f"http://127.0.0.1:{port}", log)
                try:
                    server.wait_until_it_answers()
                    yield server
                finally:
                    # gunicorn's workers notice by themselves that it is gone, but not at once.
                    server.kill()

    def query(self, sql: str, *arguments: object) -> List[Tuple[Any, ...]]:
        """Reads from the database, as it is."""
        with contextlib.closing(sqlite3.connect(self.data / "site.sqlite3", timeout=PATIENCE)) as database:
            return database.execute(sql, arguments).fetchall()

    def statuses(self) -> Dict[str, int]:
        return dict(self.query("select status, count(*) from runs_run group by status"))


class Server:
    """A running server.

    Attributes:
        url: The base URL of the site.
        process: Its main process.
    """

    def __init__(self, site: Site, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.site = site
        self.process = process
        self.url = url
        self._log = log
        self._ended = False

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def visitor(self, user: Optional[str] = None) -> Visitor:
        """Returns somebody with a browser, who is logged in if a user is named."""
        return Visitor(self.url, self.site.sessions[user] if user else None)

    def wait_until_it_answers(self) -> None:
        host = urlsplit(self.url)

        def answers() -> bool:
            assert self.process.poll() is None, f"it has not started: {self.log}"
            try:
                return self.visitor().get("/login/").status == 200
            except OSError:
                return False

        when(answers, f"{host.netloc} to answer: {self.log}", patience=PATIENCE)

    def processes(self) -> List[psutil.Process]:
        """Returns the main process and its workers."""
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def end(self, by: int = signal.SIGTERM) -> int:
        """Asks the server to end, and returns its exit code."""
        self.process.send_signal(by)
        self._ended = True
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """Kills all of it at once."""
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait(PATIENCE)


def wait_until_ended(*pids: int) -> None:
    """Returns when all of the processes, which are the runtime's, have ended, however busy the machine is."""
    for pid in pids:
        when(functools.partial(_is_gone, pid), f"process {pid} to end", patience=PATIENCE)


def _is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)
