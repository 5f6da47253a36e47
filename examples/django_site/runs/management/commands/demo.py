"""`manage.py demo`: sets the site up, starts an agent runtime on this machine, serves the site, and opens it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import Any, Dict

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

USER = PASSWORD = "demo"
HOST = "127.0.0.1"
#: A runtime of one's own need not wait long for files that are written last.
QUICK: Dict[str, Any] = {"artifact_settle": 0.3, "end_session_delay": 0.3}


class Command(BaseCommand):
    help = (
        "Sets the site up, starts the embedded agent runtime, whose agent runs each prompt as a shell script on this "
        "machine, serves the site for this machine alone, and opens it in a browser. Ctrl-C ends it all."
    )

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--port", type=int, default=8000, help="the port of the site; 8000 by default")
        parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
        parser.add_argument("--agent", default="shell", help="the runtime's agent: shell (the default), openai, …")

    def handle(self, *_: Any, **options: Any) -> None:
        try:
            from runtimeuse_sync.runtime import LocalRuntime
        except ImportError as error:
            raise CommandError(str(error)) from error
        call_command("migrate", verbosity=0)
        users = get_user_model().objects
        if not users.filter(username=USER).exists():
            users.create_user(USER, password=PASSWORD)
        with tempfile.TemporaryDirectory(prefix="runtimeuse-demo-") as sandbox:
            with LocalRuntime(agent=options["agent"], root=sandbox, **QUICK) as runtime:
                self.stdout.write(f"Agent runtime   {runtime.ws_url}, agent: {options['agent']}")
                self._serve(runtime.ws_url, options["port"], browse=not options["no_browser"])

    def _serve(self, ws_url: str, port: int, *, browse: bool) -> None:
        url = f"http://{HOST}:{port}/"
        _check_port(port)
        # Also where this was started in the background, by a shell that has its children ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # A process of its own, whose settings have the runtime's URL from their beginning. A session of its own, so
        # that Ctrl-C in the terminal ends this process, which then ends that one, and the runtime last.
        environment = {**os.environ, "RUNTIMEUSE_WS_URL": ws_url, "RUNTIMEUSE_TOKEN": ""}
        manage = Path(settings.BASE_DIR) / "manage.py"
        command = [sys.executable, str(manage), "runserver", "--noreload", f"{HOST}:{port}"]
        server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            if not _answers(url, server):
                raise CommandError(f"the site has not started at {url}")
            self.stdout.write(f"Site            {url}")
            self.stdout.write(f"Log in as       {USER}, password {PASSWORD}")
            self.stdout.write("Ctrl-C ends it.")
            self.stdout.flush()
            if browse:
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
            raise CommandError(f"the site has ended, with exit code {server.wait()}")
        except KeyboardInterrupt:
            self.stdout.write("Ending.")
        finally:
            _end(server)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise CommandError(f"port {port} cannot be used: {error.strerror}; pass --port") from error


def _end(server: "subprocess.Popen[bytes]") -> None:
    """Ends the server as Ctrl-C does: it cancels its runs and says so in their rows first."""
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
    try:
        server.wait(15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _answers(url: str, server: "subprocess.Popen[bytes]") -> bool:
    """Waits until the site answers; returns False if its process has ended instead."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end_at = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < end_at:
        try:
            with opener.open(url, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False
