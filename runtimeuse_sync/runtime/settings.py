"""The runtime's numbers and rules in one frozen object. No threads or tasks run here."""

import math
import os
from dataclasses import dataclass, fields
from typing import Optional, Tuple

from .._wire.urls import is_loopback

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE


@dataclass(frozen=True)
class RuntimeSettings:
    """What a runtime is told at its start; times are in seconds, sizes in bytes.

    Attributes:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        root: What relative paths start from, and where commands and agents run; made absolute. It must exist.
        token: What a client must show as `Authorization: Bearer …` or `?token=…`; `None` asks for nothing.
        no_auth: Allows a host that is not loopback without a token.
        allow_origins: The `Origin` headers that are let in; `"*"` lets in all. A browser page sends one, a client not.
        heartbeat_interval: Time between heartbeats while a request is in flight.
        kill_grace: Time between SIGTERM and SIGKILL for the processes of a cancelled command.
        pipe_grace: How long the output of a command's background children is still read once its shell has exited.
        artifact_settle: How long a new file's size and time must stay the same before it is announced.
        artifact_scan_interval: Time between two looks at the watched directories; grows while nothing changes, up to
            eight times as much, but not above `artifact_settle`.
        end_session_delay: How long the end of a session waits for late files, if any directory is watched.
        upload_response_timeout: How long it waits for the next answer, while there are unanswered upload requests.
        upload_timeout: How long an upload may make no progress before it is broken off; it is tried once more.
        upload_retry_delay: Time before a failed upload's second try; doubles with each further one.
        http_timeout: How long a download or upload waits for a connection, and a download for more to come.
        stop_timeout: How long a stop waits for what runs, before it kills commands and leaves agents behind.
        max_message_size: The largest message accepted from a client.
        max_stdout: The most characters of a command's stdout that its result has, which then says that it was cut;
            `None` is no limit. What is streamed is never cut.
        max_download_size: The most that a download, or what is extracted from it, may have.

    Raises:
        ValueError: a number makes no sense, or the host is not loopback and there is neither token nor `no_auth`.
    """

    host: str = "127.0.0.1"
    port: int = 0
    root: str = "."
    token: Optional[str] = None
    no_auth: bool = False
    allow_origins: Tuple[str, ...] = ()
    heartbeat_interval: float = 15.0
    kill_grace: float = 2.0
    pipe_grace: float = 0.5
    artifact_settle: float = 2.0
    artifact_scan_interval: float = 0.25
    end_session_delay: float = 3.0
    upload_response_timeout: float = 60.0
    upload_timeout: float = 20.0
    upload_retry_delay: float = 0.5
    http_timeout: float = 30.0
    stop_timeout: float = 5.0
    max_message_size: int = 100 * MEBIBYTE
    max_stdout: Optional[int] = None
    max_download_size: int = 10 * GIBIBYTE

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", os.path.abspath(self.root))
        object.__setattr__(self, "allow_origins", tuple(self.allow_origins))
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, float) and (not math.isfinite(value) or value < 0):
                raise ValueError(f"{field.name} must be a finite number of seconds, not {value!r}")
        for name in (
            "heartbeat_interval",
            "artifact_scan_interval",
            "upload_timeout",
            "http_timeout",
            "max_message_size",
            "max_download_size",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0")
        if self.max_stdout is not None and self.max_stdout < 0:
            raise ValueError("max_stdout must not be negative")
        if self.token is not None and not self.token:
            raise ValueError("token must not be empty")
        if self.token is not None and not all("!" <= character <= "~" for character in self.token):
            raise ValueError("token must be of printable ASCII characters without blanks: no header could carry it")
        if not self.token and not self.no_auth and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} can be reached from other machines, and whoever reaches the runtime can run "
                "commands: give it a token, or say no_auth if something in front of it checks who comes"
            )

    @property
    def task_timeout(self) -> float:
        """How long tasks may take to end after a stop, or instead of one: what commands get, and a bit."""
        return min(self.kill_grace, self.stop_timeout) + 1.0

    def path(self, path: str) -> str:
        """Returns a path as the runtime understands it: absolute, relative ones below its root."""
        return os.path.normpath(os.path.join(self.root, path))
