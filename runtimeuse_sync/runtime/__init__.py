"""The embedded agent runtime: a server for clients, on this machine, with no sandbox and no API key.

In this process::

    from runtimeuse_sync.runtime import LocalRuntime

    with LocalRuntime(agent="shell") as runtime:
        ...  # connect to runtime.ws_url

Or, as a process, `python -m runtimeuse_sync.runtime`. Needs the extra: `pip install "runtimeuse-sync[runtime]"`; its
packages are imported when a runtime is started.

Modules, from the outside in:

- `local.py` runs the runtime on a background thread, `__main__.py` as a process. Both use `settings.py` and
  `event_loop.py`.
- `server.py` accepts connections: `listening.py` owns the listening sockets, `liveness.py` notices clients that have
  vanished.
- `connection.py` serves one connection. `parsing.py` checks the client's messages, `request_run.py` runs one request.
- `outbox.py` sends messages to the client, after `masking.py` has masked the secrets in them. `pacing.py` keeps what
  the socket does not take yet. `failures.py` turns exceptions into error messages.
- `downloads/`: `download.py` fetches a file before the work begins, `http_body.py` reads the response, `archives.py`
  extracts zip archives.
- `commands/`: `execution.py` runs a request's commands, `processes.py` one shell command, which `shell.py` starts in
  the environment of `environment.py`, or one program, which is talked to by `program.py`. `output.py` reads its output,
  `exits.py` waits for its exit. `termination.py` ends processes, which `process_groups.py` finds. `guardian.py` ends
  them when the runtime is killed.
- `agents/`: `base.py` finds and runs an agent. `builtin.py`, `openai.py` and `claude.py` are agents;
  `claude_process.py` owns the process of the last one. An agent sends with `sender.py` and `relay.py`; `outcome.py`
  encodes its result or failure; `cancellation.py` is its cancel flag.
- `artifacts/`: `watcher.py` announces the files of watched directories, which `scanner.py` finds with the rules of
  `ignore.py`. `uploads.py` schedules the uploads, `upload.py` sends one file.
- `http_transfer.py` makes the HTTP requests of downloads and uploads abortable. `extras.py` reports missing packages.

Threads: one asyncio event loop in one thread runs everything that does not block. Blocking work, plain agents included,
runs in the threads of `workers.py`. The users' `async` agents run on an event loop of their own (`agents/loop.py`).
"""

from .agents.base import Invocation, agent_environment
from .agents.cancellation import Cancelled
from .agents.sender import AsyncSender, Sender
from .failures import RequestFailedError
from .local import LocalRuntime

__all__ = [
    "AsyncSender",
    "Cancelled",
    "Invocation",
    "LocalRuntime",
    "RequestFailedError",
    "Sender",
    "agent_environment",
]
