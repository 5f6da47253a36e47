"""The embedded agent runtime: everything a client can talk to, on one machine, with no sandbox and no API key.

    from runtimeuse_sync.runtime import LocalRuntime

    with LocalRuntime(agent="shell") as runtime:
        ...  # connect to runtime.ws_url

or, as a process, `python -m runtimeuse_sync.runtime`. Needs the extra: `pip install "runtimeuse_sync[runtime]"`; its
packages are imported when a runtime is started.

From the outside in: `local.py` and `__main__.py` run a `server.py`; it has a `session.py` per connection, which has
`request.py` do one request at a time; that uses `downloads.py`, `commands.py` and `agents.py`, and sends by
`outbox.py`. `artifacts.py` watches directories for the whole connection, and has `uploads.py` upload what is there. All
of it is asyncio on one thread; what blocks is in the threads of `workers.py`, and users' `async` agents are on the loop
of `agent_loop.py`. Processes of commands are started by `shell.py`, run by `processes.py`, and ended by `endings.py`,
or by `guardian.py` where the runtime itself no longer can.
"""

from .agents import Invocation, agent_environment
from .cancellation import Cancelled
from .failures import RequestFailedError
from .local import LocalRuntime
from .senders import AsyncSender, Sender

__all__ = [
    "AsyncSender",
    "Cancelled",
    "Invocation",
    "LocalRuntime",
    "RequestFailedError",
    "Sender",
    "agent_environment",
]
