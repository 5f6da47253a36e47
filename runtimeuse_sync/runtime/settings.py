"""Owns the runtime's settings: each one's name, type, default, checks, help text and command line flag.

Each is defined once, as a field of `RuntimeSettings`. The parameters' defaults and the documentation of `LocalRuntime`,
and the options of `__main__.py`, are derived from these fields. The agent is not a setting.

Threads: `RuntimeSettings` is immutable; any thread may read it.
"""

import math
import os
import re
import textwrap
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Optional, Tuple, Type, TypeVar

from .._wire.urls import is_loopback

T = TypeVar("T")

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE


def _setting(default: T, text: str, flag: str = "", **argument: Any) -> T:
    """Declares a setting.

    Args:
        default: Its default.
        text: Its help text, with the unit and without a final full stop.
        flag: Its flag on the command line; empty if it has no flag.
        argument: The arguments of `add_argument` for the flag. Two more are not passed on: `default_text` is the
            default as help texts show it, and `flag_default_text` replaces it in the command line's help.
    """
    return field(default=default, metadata={"help": text, "flag": flag, "argument": argument})


def _seconds(default: float, text: str, flag: str = "") -> float:
    return _setting(default, f"Seconds {text}", flag, type=float, metavar="S", default_text=f"{default:g}")


@dataclass(frozen=True)
class RuntimeSettings:
    """The settings of one runtime. Each field's metadata has its help text.

    Raises:
        ValueError: A setting is invalid, or the host is not loopback and there is neither a token nor `no_auth`.
    """

    host: str = _setting("127.0.0.1", "Address to listen on", "--host")
    port: int = _setting(0, "Port to listen on; 0 takes a free one", "--port", type=int)
    root: str = _setting(
        ".",
        "Directory where commands and agents run, and against which relative paths are resolved; it must exist",
        "--root",
        metavar="DIR",
        default_text="the current directory",
    )
    token: Optional[str] = _setting(
        None,
        "Token that clients must send, as header `Authorization: Bearer TOKEN` or as `?token=TOKEN` in the URL; "
        "required for a host that is not loopback, unless `no_auth` is set; it is not part of the `ws_url`",
        "--token",
        flag_default_text="$RUNTIMEUSE_TOKEN, which unlike the option does not show in lists of processes",
    )
    no_auth: bool = _setting(
        False,
        "Allow listening on a host that is not loopback without a token",
        "--no-auth",
        action="store_true",
        flag_default_text="no",
    )
    allow_origins: Tuple[str, ...] = _setting(
        (),
        "`Origin` headers to accept, `*` for all; browsers send one, and are refused unless it is accepted",
        "--allow-origin",
        action="append",
        metavar="ORIGIN",
        default_text="none",
    )
    heartbeat_interval: float = _seconds(
        15.0, "between heartbeats while a request is in flight", "--heartbeat-interval"
    )
    kill_grace: float = _seconds(2.0, "between SIGTERM and SIGKILL for a cancelled command's processes", "--kill-grace")
    pipe_grace: float = _seconds(
        0.5,
        "of silence after which the output of a command's background children is no longer read, once its shell has "
        "exited",
    )
    artifact_settle: float = _seconds(
        2.0, "for which a new file must stay unchanged before it is announced", "--artifact-settle"
    )
    artifact_scan_interval: float = _seconds(
        0.25,
        "between two scans of the watched directories; grows while nothing changes, up to eight times as much, but not "
        "above `artifact_settle`",
    )
    end_session_delay: float = _seconds(
        3.0, "for which the end of a session waits for late files, if a directory is watched", "--end-session-delay"
    )
    upload_response_timeout: float = _seconds(
        60.0, "for which the end of a session waits for the next upload response", "--upload-response-timeout"
    )
    upload_timeout: float = _seconds(
        20.0, "for which an upload may make no progress before it is aborted; it is retried once", "--upload-timeout"
    )
    upload_retry_delay: float = _seconds(0.5, "before an upload's first retry; doubles with each further one")
    http_timeout: float = _seconds(
        30.0, "for which a download or upload waits for a connection, and a download for more data"
    )
    stop_timeout: float = _seconds(
        5.0,
        "for which a stop waits for requests before it kills commands, abandons agents, and reports the requests as "
        "cancelled",
        "--stop-timeout",
    )
    max_message_size: int = _setting(
        100 * MEBIBYTE, "Largest message accepted from a client, in bytes", default_text="100 MiB"
    )
    max_stdout: Optional[int] = _setting(
        None,
        "Most characters of a command's stdout in its result; a longer stdout is cut and ends with a note. Streamed "
        "output is never cut",
        "--max-stdout",
        type=int,
        metavar="N",
        default_text="no limit",
    )
    max_download_size: int = _setting(
        10 * GIBIBYTE,
        "Largest download, and largest total of the files extracted from one, in bytes",
        "--max-download-size",
        type=int,
        metavar="N",
        default_text="10 GiB",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", os.path.abspath(self.root))
        object.__setattr__(self, "allow_origins", tuple(self.allow_origins))
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(setting.default, float) and (not math.isfinite(value) or value < 0):
                raise ValueError(f"{setting.name} must be a finite number of seconds, not {value!r}")
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
            raise ValueError("token must consist of printable ASCII characters without spaces, to fit into a header")
        if not self.token and not self.no_auth and not is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} can be reached from other machines, and every client can run commands: set a "
                "token, or no_auth if a proxy in front of the runtime checks clients"
            )

    @property
    def task_timeout(self) -> float:
        """How long tasks may take to end after a stop, in seconds: as long as commands get, plus one second."""
        return min(self.kill_grace, self.stop_timeout) + 1.0

    def path(self, path: str) -> str:
        """Returns a path as an absolute one; a relative path starts from the root."""
        return os.path.normpath(os.path.join(self.root, path))


def documents_settings(kind: Type[T]) -> Type[T]:
    """Replaces the line `{settings}` of a class's docstring by the settings' help texts; a class decorator."""
    # `python -OO` removes docstrings; Python 3.13 and later remove their indentation.
    found = re.search(r"^( *)\{settings\}$", kind.__doc__ or "", re.MULTILINE)
    if kind.__doc__ is not None and found is not None:
        indent = found.group(1)
        lines = []
        for setting in fields(RuntimeSettings):
            default = setting.metadata["argument"].get("default_text", setting.default)
            text = f"{setting.name}: {setting.metadata['help']} (default: {default})."
            lines += textwrap.wrap(text, 112, initial_indent=indent, subsequent_indent=f"{indent}    ")
        kind.__doc__ = kind.__doc__.replace(found.group(), "\n".join(lines))
    return kind


def add_options(add_argument: Callable[..., Any]) -> None:
    """Adds an option to a command line for each setting that has a flag; `add_argument` is the parser's method."""
    for setting in fields(RuntimeSettings):
        if not setting.metadata["flag"]:
            continue
        argument = {"default": setting.default, **setting.metadata["argument"]}
        default_text = argument.pop("default_text", "%(default)s")
        default_text = argument.pop("flag_default_text", default_text)
        text = setting.metadata["help"]
        add_argument(
            setting.metadata["flag"],
            dest=setting.name,
            help=f"{text[0].lower()}{text[1:]} (default: {default_text})",
            **argument,
        )
