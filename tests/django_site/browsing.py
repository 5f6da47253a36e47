"""Visitors of the site: what a browser does, without one. A reader of a run's events can leave at any time."""

from __future__ import annotations

import http.client
import json
import re
import socket
import uuid
from types import TracebackType
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Type
from urllib.parse import urlencode, urlsplit

LIMIT = 60.0


class Answer:
    """A response, read to its end."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def path(self) -> str:
        """Where it leads to."""
        return urlsplit(self.headers["Location"]).path


class Visitor:
    """Somebody with cookies."""

    def __init__(self, url: str, session: Optional[str] = None) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._address = (address.hostname, address.port)
        self._cookies = {"csrftoken": "t" * 32}
        if session:
            self._cookies["sessionid"] = session

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, headers)

    def post(
        self, path: str, fields: Mapping[str, str], files: Sequence[Tuple[str, bytes]] = (), *, csrf: bool = True
    ) -> Answer:
        given = {**fields, "csrfmiddlewaretoken": self._cookies["csrftoken"]} if csrf else dict(fields)
        if not files:
            body = urlencode(given).encode()
            return self._ask("POST", path, {"Content-Type": "application/x-www-form-urlencoded"}, body)
        boundary = uuid.uuid4().hex
        parts = [f'form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in given.items()]
        parts += [f'form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + content for name, content in files]
        body = b"".join(f"--{boundary}\r\nContent-Disposition: ".encode() + part + b"\r\n" for part in parts)
        body += f"--{boundary}--\r\n".encode()
        return self._ask("POST", path, {"Content-Type": f"multipart/form-data; boundary={boundary}"}, body)

    def start(self, prompt: str, *, kind: str = "query", alone: bool = False, files: Any = ()) -> str:
        """Starts a run, and returns the path of its page."""
        fields = {"kind": kind, "prompt": prompt, **({"goes_on_alone": "on"} if alone else {})}
        answer = self.post("/new/", fields, files)
        assert answer.status == 302, re.sub(r"\s*\n\s*", "\n", re.sub("<[^>]*>", "", answer.text))
        return answer.path

    def cancel(self, run: str) -> Answer:
        return self.post(run + "cancel", {})

    def read(self, run: str, **headers: str) -> Reader:
        """Begins to read the events of a run."""
        connection = self._open("GET", run + "events", headers)
        return Reader(connection, lambda last: self._again(run, last), headers.get("Last-Event-ID", ""))

    def _again(self, run: str, last: str) -> http.client.HTTPConnection:
        return self._open("GET", run + "events", {"Last-Event-ID": last} if last else {})

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: Optional[bytes] = None) -> Answer:
        connection = self._open(method, path, headers, body)
        try:
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def _open(
        self, method: str, path: str, headers: Mapping[str, str], body: Optional[bytes] = None
    ) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(*self._address, timeout=LIMIT)
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        connection.request(method, path, body, {"Cookie": cookies, "Connection": "close", **headers})
        return connection


class Reader:
    """Reads events as a browser's EventSource: when a stream ends before the run does, it connects again."""

    def __init__(self, connection: http.client.HTTPConnection, again: Any, last: str) -> None:
        self._connection = connection
        self._response = connection.getresponse()
        self._again = again
        self.last = last
        self._unread: Optional[bytes] = None
        assert self._response.status == 200, self._response.read()
        assert self._response.headers["Content-Type"] == "text/event-stream"

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Leaves at once, as a browser does whose page is closed."""
        sock: Optional[socket.socket] = self._connection.sock
        if sock is not None:
            sock.close()
        self._response.close()
        self._connection.close()

    def stay(self, until: Callable[[], bool]) -> None:
        """Goes on reading what says nothing new, as a page that is left open, until something else has happened."""
        while not until():
            line = self._read_line()
            if until():
                # It may be the first that is new.
                self._unread = line
                return
            assert not line.startswith(b"event: ") or line == b"event: heartbeat\n", line
            if not line:
                self._connect_again()

    def _read_line(self) -> bytes:
        line, self._unread = self._unread, None
        return self._response.readline() if line is None else line

    def _connect_again(self) -> None:
        self.leave()
        self._connection = self._again(self.last)
        self._response = self._connection.getresponse()

    def __iter__(self) -> Iterator[Tuple[str, Dict[str, Any]]]:
        while True:
            kind, data = "", ""
            for line in iter(self._read_line, b""):
                name, _, value = line.decode().rstrip("\r\n").partition(": ")
                if name == "id":
                    self.last = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    data = value
                elif not name and kind:
                    yield kind, json.loads(data)
                    if kind == "end":
                        return
                    kind, data = "", ""
            self._connect_again()

    def until(self, text: str) -> str:
        """Reads until a text has come, and returns all of the texts up to there."""
        said = ""
        for kind, data in self:
            assert kind != "end", (said, data)
            if kind in ("assistant", "output"):
                said += data["text"]
            if text in said:
                return said
        raise AssertionError(said)

    def all(self) -> Tuple[List[Tuple[str, Dict[str, Any]]], Dict[str, Any]]:
        """Reads to the end, and returns all events, and the end."""
        *events, (_, end) = list(self)
        return events, end
