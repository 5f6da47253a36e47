"""The conversation that the wire's faults are injected into, and what it must come to whatever the wire does to it.

It has all that a session can have: a query with streamed messages, an artifact and a result; commands with output; the
end of the session. It goes through a `ChaosProxy` to an embedded runtime. What the client makes of it is held against
the bytes that the proxy has really let through:

    each message, once it had wholly arrived, was handed over, in order, once; nothing else was
    each call returned its own result if that had wholly arrived, and raised otherwise
    no exception at all means that the runtime has confirmed the end, and that the artifact is where it belongs
    the runtime was never asked twice for the same
    the next call is right
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from runtimeuse_sync import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    RuntimeUseClient,
    RuntimeUseError,
)
from runtimeuse_sync.runtime import LocalRuntime

from ..support.servers import PATIENCE
from ..support.storage import Storage
from .proxy import DOWN, ChaosProxy, Passage
from .recording import messages

CONTENT = b"the report \xe2\x82\xac"
SAID = ["thinking – ", "still thinking"]
STREAMED = ("assistant_message", "command_output_message")


class Conversation:
    """One try.

    Attributes:
        seen: What the callbacks were given.
        results: What the calls returned, by kind.
        error: What ended it, if anything did.
    """

    def __init__(
        self, bench: Bench, number: int, settings: Dict[str, Any], end: float, keywords: Dict[str, Any]
    ) -> None:
        self._bench = bench
        # Of the same length every time, so that a byte's place means the same in every try.
        self.name = f"{number:06}"
        self._client = RuntimeUseClient(bench.proxy.url, model="m", **settings)
        self._end = end
        self._keywords = {"timeout": PATIENCE, **keywords}
        self.seen: List[str] = []
        self.results: Dict[str, str] = {}
        self.error: Optional[RuntimeUseError] = None

    def run(self) -> Conversation:
        """Talks until it is over, one way or the other; only what the package raises on purpose may end it."""
        try:
            with self._client.session(end_session_timeout=self._end) as session:
                answer = session.query(
                    self.name,
                    artifacts_dirs=["out"],
                    on_artifact_upload_request=self._upload,
                    on_assistant_message=lambda message: self.seen.extend(message.text_blocks),
                    **self._keywords,
                )
                self.results["result_message"] = answer.text
                done = session.execute_commands(
                    [f"echo {self.name}"],
                    on_command_output=lambda message: self.seen.append(message.text),
                    **self._keywords,
                )
                self.results["command_execution_result_message"] = done.results[0].stdout or ""
        except RuntimeUseError as error:
            self.error = error
        return self

    def _upload(self, _: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        return ArtifactUploadResult(f"{self._bench.storage.url}/{self.name}", "text/plain")

    def check(self, arrived: bytes, *, left_early: bool = False) -> None:
        """Asserts all that is said above, given what the client was sent on its last connection.

        Args:
            arrived: What it was sent.
            left_early: Whether a call may have been given up, and what came for it have been left unused.
        """
        came = messages(arrived)
        said = [part for kind, message in came if kind in STREAMED for part in parts(message)]
        right = {"result_message": f"re: {self.name}", "command_execution_result_message": f"{self.name}\n"}
        results = {kind: right[kind] for kind, _ in came if kind in right}
        confirmed = "end_session_confirm_message" in dict(came)
        if left_early:
            said = said[: len(self.seen)]
            results = {kind: results[kind] for kind in self.results}
            confirmed = confirmed and self.error is None
        assert self.seen == said, (self.seen, said)
        assert self.results == results, (self.results, results, self.error)
        assert (self.error is None) == confirmed, self.error
        if self.error is None:
            assert self._bench.storage.stored[f"/{self.name}"] == CONTENT
        self.check_not_repeated()

    def check_not_repeated(self) -> None:
        assert self._bench.asked.count(self.name) <= 1


def parts(message: Dict[str, Any]) -> List[str]:
    """Returns the texts of a streamed message."""
    return message["text_blocks"] if "text_blocks" in message else [message["text"]]


class Bench:
    """A runtime, a proxy before it, and a storage for its artifacts; makes tries and looks what is left of each.

    Attributes:
        asked: The prompts that have reached the agent.
    """

    def __init__(self, root: Path, storage: Storage) -> None:
        (root / "out").mkdir()
        (root / "out" / "report").write_bytes(CONTENT)
        self.asked: List[str] = []
        self.storage = storage
        # With files that are announced at once, nothing in the conversation waits for a clock.
        self.runtime = LocalRuntime(
            self._agent,
            root=str(root),
            artifact_scan_interval=0.01,
            artifact_settle=0.01,
            end_session_delay=0.01,
            pipe_grace=0.05,
        )
        self.runtime.start()
        self.proxy = ChaosProxy(int(self.runtime.ws_url.rsplit(":", 1)[1]))
        self._number = 0

    def _agent(self, invocation: Any, sender: Any) -> str:
        self.asked.append(invocation.user_prompt)
        if invocation.user_prompt != "next":
            sender.send_assistant_message(SAID)
            sender.send_assistant_message([f"{invocation.user_prompt} is done"])
        return f"re: {invocation.user_prompt}"

    def converse(
        self, settings: Optional[Dict[str, Any]] = None, end: float = PATIENCE, **keywords: Any
    ) -> Conversation:
        """Makes one try; `settings` are the client's, `end` is for the session's end, `keywords` are the calls'."""
        self._number += 1
        return Conversation(self, self._number, settings or {}, end, keywords).run()

    def record(self, talk: Optional[Callable[[], object]] = None) -> Passage:
        """Returns a conversation that nothing happens to; by default the one of `converse`."""
        self.proxy.forget()
        conversation = self.converse() if talk is None else talk()
        passage = self.proxy.passage()
        assert passage.over.wait(PATIENCE)
        if isinstance(conversation, Conversation):
            assert conversation.error is None
            conversation.check(bytes(passage.forwarded[DOWN]))
        self.proxy.forget()
        return passage

    def check_next(self) -> None:
        """Asserts that nothing is left behind by the last try, and that the next call is right."""
        connections = [thread for thread in threading.enumerate() if thread.name.startswith("runtimeuse-connection")]
        assert connections == []
        self.proxy.forget()
        self.proxy.harm(None)
        assert RuntimeUseClient(self.proxy.url, model="m").query("next", timeout=PATIENCE).text == "re: next"
        self.proxy.forget()

    def close(self) -> None:
        self.proxy.stop()
        self.runtime.stop()
