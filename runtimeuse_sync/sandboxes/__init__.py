"""Sandboxes: where an agent runtime runs, how to reach it, and how to end it.

For example::

    from runtimeuse_sync.sandboxes import local_process

    with local_process() as sandbox:
        client = RuntimeUseClient(sandbox.ws_url, headers=sandbox.headers)

Code that takes a `Sandbox` works on a laptop and with every provider: only the line that makes the sandbox differs.
`local_process` runs the embedded runtime in a process of its own (extra `[runtime]`). `RemoteSandbox` is the sandbox of
a provider, and `ensure_killed` ends it whatever happens. `examples/sandboxes/` has one example for each provider.

Modules: `_remote.py` has the protocol and the sandboxes of providers, `_killing.py` ends them, `_local.py` has the
process of the embedded runtime, `_output.py` what that process prints.

Threads: importing the package starts none. A local process has one, which reads what the process prints.
"""

from ._killing import ensure_killed
from ._local import LocalProcess, SandboxError, local_process
from ._remote import RemoteSandbox, Sandbox

__all__ = ["LocalProcess", "RemoteSandbox", "Sandbox", "SandboxError", "ensure_killed", "local_process"]
