"""The embedded agent runtime: everything a client can talk to, on one machine, with no sandbox and no API key.

    from runtimeuse_sync.runtime import LocalRuntime

    with LocalRuntime(agent="shell") as runtime:
        ...  # connect to runtime.ws_url

or, as a process, `python -m runtimeuse_sync.runtime`. Needs the extra: `pip install "runtimeuse_sync[runtime]"`; its
packages are imported when a runtime is started.

From the outside in: `local.py` and `__main__.py` run a `server.py`, whose sockets are `listening.py`'s; it has a
`session.py` per connection, on which `vanishing.py` keeps an eye, and that has `request.py` do one request at a time,
as `messages.py` reads it. All that goes out goes by `outbox.py`, masked by `redaction.py`.

- Downloads: `downloads.py`, with `http_transfer.py`, `http_body.py` and `archives.py`.
- Commands: `commands.py`. Their processes are started by `shell.py`, with what `environment.py` gives them, run by
  `processes.py`, and ended by `endings.py`, which finds them by `_proc.py`, or by `guardian.py` where the runtime
  itself no longer can.
- Agents: `agents.py`, `builtin_agents.py` and `openai_agent.py`. They send by `senders.py` and `relay.py`; `telling.py`
  and `failures.py` put their end into words.
- Artifacts: `artifacts.py` watches directories for the whole connection, by `scanner.py` and `ignore.py`; `uploads.py`
  has each file uploaded by an `upload.py`.

All of it is asyncio on one thread; what blocks is in the threads of `workers.py`, and users' `async` agents are on the
loop of `agent_loop.py`.
"""

from .agents.base import Invocation, agent_environment
from .agents.sender import AsyncSender, Sender
from .cancellation import Cancelled
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
