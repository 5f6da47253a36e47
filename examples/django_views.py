"""A Django project in one file: a view that asks an agent, one that cancels it, and artifacts in Django's storage.

It has no `manage.py` and streams nothing; `examples/django_site` is a project with both.

It is served by a thread for each request, as a site is; `python manage.py runserver` does the same. `docs/django.md`
explains each part.
"""

import json
import socketserver
import tempfile
import threading
import urllib.request
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import include, path

from runtimeuse_sync import CancelledException
from runtimeuse_sync.django import cancellable, get_client, request_cancel, storage_uploads
from runtimeuse_sync.runtime import LocalRuntime

started = threading.Event()


def build(request: Any) -> JsonResponse:
    """Runs a script in the sandbox. What it writes into `out` is in the storage afterwards."""
    uploads = storage_uploads(request, prefix="runs/1")
    said = []
    get_client().query(
        "mkdir -p out && echo writing the report && echo '1,2' > out/report.csv",
        on_assistant_message=lambda message: said.append(message.text),
        artifacts_dirs=["out"],
        on_artifact_upload_request=uploads,
    )
    files = {file.key: uploads.storage.open(file.key) for file in uploads.files}
    contents = {}
    for key, file in files.items():
        with file:
            contents[key] = file.read().decode()
    return JsonResponse({"said": said, "files": contents})


def wait(_: Any) -> JsonResponse:
    """Runs until it is cancelled by another request."""
    try:
        get_client().query(
            "echo waiting; sleep 600",
            on_assistant_message=lambda _: started.set(),
            cancel_when=cancellable("run-2"),
            cancel_poll_interval=0.05,
        )
    except CancelledException:
        return JsonResponse({"status": "cancelled"})
    return JsonResponse({"status": "done"})


def cancel(_: Any) -> JsonResponse:
    """Cancels the run of `wait`. A site with users passes the request, too: `request_cancel("run-2", request)`."""
    request_cancel("run-2")
    return JsonResponse({"status": "asked to cancel"})


urlpatterns = [
    path("build", build),
    path("wait", wait),
    path("cancel", cancel),
    path("runtimeuse/", include("runtimeuse_sync.django.urls")),
]


class Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


def main() -> None:
    with tempfile.TemporaryDirectory() as media, LocalRuntime(agent="shell", root=media) as runtime:
        settings.configure(
            SECRET_KEY="only in this example",
            ALLOWED_HOSTS=["127.0.0.1"],
            ROOT_URLCONF=__name__,
            MEDIA_ROOT=f"{media}/storage",
            INSTALLED_APPS=["runtimeuse_sync.django"],
            RUNTIMEUSE={"default": {"WS_URL": runtime.ws_url, "MODEL": "any", "TIMEOUT": 60}},
        )
        django.setup()
        with make_server("127.0.0.1", 0, get_wsgi_application(), Server, Quiet) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,)).start()
            browse = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

            def get(view: str) -> Any:
                with browse(f"http://127.0.0.1:{server.server_port}/{view}") as response:
                    return json.loads(response.read())

            built = get("build")
            print("said:", built["said"])
            print("stored:", built["files"])
            waiting = threading.Thread(target=lambda: print("the waiting request:", get("wait")["status"]))
            waiting.start()
            started.wait(30)
            print("another request:", get("cancel")["status"])
            waiting.join()
            server.shutdown()


if __name__ == "__main__":
    main()
