"""A server on loopback that speaks OpenAI's APIs, streamed, and answers what a test writes down."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, List, Sequence, Union

from ..support.servers import PATIENCE

#: Writes an answer to the request, given with its body.
Turn = Callable[["Handler", Dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        script = self.server.script
        script.requests.append({"path": self.path, "authorization": self.headers["Authorization"], **body})
        try:
            turn = script.turns.pop(0)
        except IndexError:
            self.fail(500, "the script has ended")
            return
        try:
            turn(self, body)
        except (BrokenPipeError, ConnectionResetError):
            script.gone.set()

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def chunk(self, delta: Dict[str, Any], finish: Union[str, None] = None, **more: Any) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.event({"choices": [choice], **more})

    def event(self, fields: Dict[str, Any]) -> None:
        event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted", **fields}
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.flush()

    def end_stream(self) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        self.event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def fail(self, status: int, message: str) -> None:
        content = json.dumps({"error": {"message": message, "type": "scripted", "code": None}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        return


class _Server(ThreadingHTTPServer):
    script: ModelServer


class ModelServer:
    """A scripted model: each request gets the next of `turns`, and is kept in `requests`."""

    def __init__(self, *turns: Turn) -> None:
        self.turns: List[Turn] = list(turns)
        self.requests: List[Dict[str, Any]] = []
        #: The other side has closed the connection within an answer.
        self.gone = threading.Event()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.script = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="model")
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> ModelServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def says(*pieces: str) -> Turn:
    """An answer that is streamed in pieces."""

    def turn(handler: Handler, _: Dict[str, Any]) -> None:
        handler.start_stream()
        handler.chunk({"role": "assistant", "content": ""})
        for piece in pieces:
            handler.chunk({"content": piece})
        handler.chunk({}, "stop")
        handler.end_stream()

    return turn


def runs(*commands: str, saying: Sequence[str] = (), arguments: str = "") -> Turn:
    """An answer that calls the shell tool, once for each command, the arguments streamed in two pieces."""

    def turn(handler: Handler, _: Dict[str, Any]) -> None:
        handler.start_stream()
        handler.chunk({"role": "assistant", "content": None})
        for piece in saying:
            handler.chunk({"content": piece})
        for index, command in enumerate(commands or ("",)):
            text = arguments or json.dumps({"command": command, "cwd": None})
            call = {"id": f"call_{index}", "type": "function", "function": {"name": "shell", "arguments": text[:5]}}
            handler.chunk({"tool_calls": [{"index": index, **call}]})
            handler.chunk({"tool_calls": [{"index": index, "function": {"arguments": text[5:]}}]})
        handler.chunk({}, "tool_calls")
        handler.end_stream()

    return turn


def responds(*items: Dict[str, Any]) -> Turn:
    """An answer of the responses API with these items: messages, calls of tools."""

    def turn(handler: Handler, body: Dict[str, Any]) -> None:
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        response = {"id": "r", "object": "response", "created_at": 1, "model": body["model"], "tools": []}
        response.update(parallel_tool_calls=True, tool_choice="auto", output=[], status="in_progress")
        events: List[Dict[str, Any]] = [{"type": "response.created", "response": response}]
        for index, item in enumerate(items):
            events.append({"type": "response.output_item.added", "output_index": index, "item": item})
            events.append({"type": "response.output_item.done", "output_index": index, "item": item})
        done = {**response, "status": "completed", "output": items, "usage": {**usage, **details}}
        events.append({"type": "response.completed", "response": done})
        handler.start_stream()
        for number, event in enumerate(events):
            text = json.dumps({**event, "sequence_number": number})
            handler.wfile.write(f"event: {event['type']}\ndata: {text}\n\n".encode())

    return turn


def message(text: str) -> Dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}


def shell_call(command: str) -> Dict[str, Any]:
    arguments = json.dumps({"command": command, "cwd": None})
    return {"type": "function_call", "id": "f", "call_id": "call_0", "name": "shell", "arguments": arguments}


def web_search_call() -> Dict[str, Any]:
    action = {"type": "search", "query": "q"}
    return {"type": "web_search_call", "id": "ws", "status": "completed", "action": action}


def fails(status: int, message: str) -> Turn:
    return lambda handler, _: handler.fail(status, message)


def breaks_off(handler: Handler, _: Dict[str, Any]) -> None:
    """An answer whose connection ends in the middle."""
    handler.start_stream()
    handler.chunk({"role": "assistant", "content": "half"})


class Stalls:
    """An answer that begins and does not go on until it is let."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, handler: Handler, _: Dict[str, Any]) -> None:
        handler.start_stream()
        handler.chunk({"role": "assistant", "content": "thinking"})
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
