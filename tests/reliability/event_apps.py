"""Web applications that send a run's events, and the servers that the tests run them in: one process each.

    python -m tests.reliability.event_apps KIND DESCRIPTOR

listens on an inherited socket; Django's own server, which takes none, on a port that it prints.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

from runtimeuse_sync import RuntimeUseClient, asgi, sse


def run_of(query: Any) -> Any:
    """Returns the run that a request asks for: of a prompt, or of a command."""
    client = RuntimeUseClient(model="any")
    if "prompt" in query:
        return client.stream(query["prompt"])
    return client.stream_commands([query["command"]])


def configure_django() -> None:
    import django
    from django.conf import settings
    from django.urls import path

    from runtimeuse_sync.django import event_stream

    def events(request: Any) -> Any:
        return event_stream(run_of(request.GET), request)

    class Urls:
        urlpatterns = (path("", events),)

    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=Urls,
        SECRET_KEY="a key for tests",
        # Both hold a response back if they can.
        MIDDLEWARE=["django.middleware.gzip.GZipMiddleware", "django.middleware.http.ConditionalGetMiddleware"],
    )
    django.setup()


def django_wsgi() -> Any:
    from django.core.wsgi import get_wsgi_application

    configure_django()
    return get_wsgi_application()


def django_asgi() -> Any:
    from django.core.asgi import get_asgi_application

    configure_django()
    return get_asgi_application()


def flask_app() -> Any:
    from flask import Flask, Response, request

    app = Flask("events")

    def events() -> Any:
        return Response(sse.events(run_of(request.args)), headers=dict(sse.HEADERS))

    app.get("/")(events)
    return app


def fastapi_app() -> Any:
    from fastapi import FastAPI, Request
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    async def events(request: Request) -> Any:
        return StreamingResponse(asgi.events(run_of(request.query_params)), headers=dict(sse.HEADERS))

    # The annotations, which are texts here, are looked up in the module.
    events.__annotations__ = {"request": Request}
    app.get("/")(events)
    return app


def serve(kind: str, descriptor: int) -> None:
    if kind == "runserver":
        from django.core.servers.basehttp import run

        run("127.0.0.1", 0, django_wsgi(), threading=True, on_bind=lambda port: print(port, flush=True))
    listener = socket.socket(fileno=descriptor)
    if kind == "flask":
        from werkzeug.serving import make_server

        make_server("127.0.0.1", 0, flask_app(), threaded=True, fd=listener.fileno()).serve_forever()
    elif kind == "waitress":
        import waitress

        waitress.serve(django_wsgi(), sockets=[listener], threads=4)
    else:
        import uvicorn

        app = {"uvicorn-django": django_asgi, "uvicorn-fastapi": fastapi_app}[kind]()
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
        asyncio.run(server.serve(sockets=[listener]))


def __getattr__(name: str) -> Any:
    """Makes the application that gunicorn asks for, in its worker."""
    if name == "application":
        globals()[name] = django_wsgi()
        return globals()[name]
    raise AttributeError(name)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
