"""An in-memory runtime, for tests of code that uses this client: no process, no model, no waiting.

For example::

    from runtimeuse_sync import RuntimeUseClient
    from runtimeuse_sync.testing import FakeRuntime, text_result

    fake = FakeRuntime([text_result("4")])
    client = RuntimeUseClient(transport=fake, model="any")
    assert client.query("What is 2 + 2?").text == "4"
    assert fake.requests[0]["user_prompt"] == "What is 2 + 2?"

It follows the protocol: one request at a time, cancellation, the barrier, and the end of a session, which it confirms
once its upload requests are answered. For real processes and a real WebSocket, use
`runtimeuse_sync.runtime.LocalRuntime`. `use_runtime` leads code to either that makes its client from the environment.
The pytest plugin, `runtimeuse_sync.pytest_plugin`, has fixtures of all this.

Modules: `_fake.py` has the runtime and its connections, `_script.py` which requests it expects, `_replies.py` messages
and `_steps.py` faults and waits, of which replies are made; `_playing.py` plays a reply that takes time, and
`_serving.py` serves the runtime by a WebSocket, to which `_environment.py` leads.

Threads: replies, and functions that return them, run in the thread that sends for the connection. A generator, or a
reply with steps, runs in a thread of its own while its request is in flight.
"""

from ._environment import use_runtime
from ._fake import FakeConnection, FakeRuntime
from ._replies import (
    HANG,
    Items,
    Message,
    Reply,
    assistant_message,
    command_output,
    command_results,
    error,
    heartbeat,
    late_terminal,
    structured_result,
    text_result,
    upload_request,
)
from ._script import ANY
from ._steps import (
    Step,
    Waitable,
    delay,
    ignore_cancel,
    lost_connection,
    silence,
    wait_for,
)

__all__ = [
    "ANY",
    "HANG",
    "FakeConnection",
    "FakeRuntime",
    "Items",
    "Message",
    "Reply",
    "Step",
    "Waitable",
    "assistant_message",
    "command_output",
    "command_results",
    "delay",
    "error",
    "heartbeat",
    "ignore_cancel",
    "late_terminal",
    "lost_connection",
    "silence",
    "structured_result",
    "text_result",
    "upload_request",
    "use_runtime",
    "wait_for",
]
