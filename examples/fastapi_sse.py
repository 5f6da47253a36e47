"""Send a run to the browser with FastAPI, and ask an agent from a coroutine: a reader that leaves ends the run.

`asgi.events` is for a stream, `asgi.run_in_thread` for a call, as `asyncio.to_thread` is, but one that can be
cancelled. Here, the script itself is the reader.
"""

import asyncio
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Awaitable, Dict
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from runtimeuse_sync import RuntimeUseClient, RuntimeUseError, asgi, sse
from runtimeuse_sync.runtime import LocalRuntime


async def unless_reader_leaves(request: Request, work: Awaitable[Any]) -> Any:
    """Awaits work, which is cancelled if the reader leaves before: a framework does that for streams alone."""
    task = asyncio.ensure_future(work)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        task.cancel()

    watching = asyncio.ensure_future(watch())
    try:
        await asyncio.wait({task})
        return None if task.cancelled() else task.result()
    finally:
        watching.cancel()
        task.cancel()


def make_app(client: RuntimeUseClient) -> FastAPI:
    app = FastAPI()

    @app.get("/events")
    async def events(request: Request, prompt: str) -> Response:
        if "Last-Event-ID" in request.headers:
            # A browser connects again when a response ends. The run has ended with it, and must not run twice.
            return Response(status_code=204)
        return StreamingResponse(asgi.events(client.stream(prompt, timeout=300)), headers=dict(sse.HEADERS))

    @app.get("/answer")
    async def answer(request: Request, prompt: str) -> Dict[str, str]:
        try:
            result = await unless_reader_leaves(request, asgi.run_in_thread(client.query, prompt, timeout=300))
        except RuntimeUseError as error:
            raise HTTPException(502, sse.event_of(error).data["error"]) from error
        return {"answer": result.text if result else ""}

    return app


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, LocalRuntime(agent="shell", root=directory) as runtime:
        app = make_app(RuntimeUseClient(runtime.ws_url, model="any"))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = threading.Thread(target=server.run, args=([listener],))
            serving.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            browse = build_opener(ProxyHandler({})).open

            with browse(f"{url}/answer?prompt={quote('echo 42')}") as response:
                print(response.read().decode())
            with browse(f"{url}/events?prompt={quote('echo one; echo two')}") as response:
                for line in response:
                    if line.startswith((b"event:", b"data:")):
                        print(line.decode().strip())

            for path in ("events", "answer"):
                there = Path(directory, path)
                script = f"trap 'rm {path}; exit' TERM; touch {path}; echo begun; sleep 60 & wait"
                with socket.create_connection(listener.getsockname()) as reader:
                    reader.sendall(f"GET /{path}?prompt={quote(script)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                    while not there.exists():
                        time.sleep(0.01)
                left = time.monotonic()
                while there.exists():
                    time.sleep(0.01)
                print(f"/{path} ended within 2 s:", time.monotonic() - left < 2)
            server.should_exit = True
            serving.join()


if __name__ == "__main__":
    main()
