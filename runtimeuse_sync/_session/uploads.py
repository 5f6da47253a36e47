"""The upload requests of one connection: kept until a callback answers them, and retried once at the session's end.

An upload request belongs to no call: the runtime announces files during a call, between calls and while the session
ends. None is ever dropped, but memory is bounded: the runtime violates the protocol if it announces more than may be
kept.

Threads: none of its own. Whoever has the connection's turn uses the state (`channel.py`).
"""

import math
from collections import deque
from typing import Callable, Deque, Dict, List, NamedTuple, Optional, Sequence

from .._call import Call
from .._wire.artifact_paths import NO_DIRECTORIES
from ..messages import ArtifactUploadRequestMessageInterface, announce_in
from ..options import Options
from .callbacks import Callbacks, session_ended

#: Seconds after which a runtime that ends its session has surely announced all late files.
LATE_FILES = 5.0

#: Seconds that a runtime waits for running uploads at the end of its session (PROTOCOL.md, "Artifacts").
RUNNING_UPLOADS = 30.0

#: The approximate memory of a kept request without its two texts, in bytes.
_OVERHEAD = 400


class Answered(NamedTuple):
    """The requests that an upload callback has answered, for one that is told of the session's end.

    Attributes:
        options: Options that have the callback.
        requests: The last request for each file, by its path in the sandbox.
    """

    options: Options
    requests: Dict[str, ArtifactUploadRequestMessageInterface]


class Uploads:
    """The upload requests of one connection.

    Args:
        submit: Sends a message.
        max_bytes: The most bytes of requests that may be kept.

    Attributes:
        kept: The unanswered requests, oldest first. They wait for a call or the session's end.
        failed: The requests whose callback failed. They are retried at the session's end.
        options: The options of the last call with an upload callback.
        directories: The artifact directories that all calls so far have named.
        answered: What each callback that is told of the session's end has answered, by the callback's identity.
    """

    def __init__(self, submit: Callable[[bytes], None], max_bytes: float = math.inf) -> None:
        self.kept: Deque[ArtifactUploadRequestMessageInterface] = deque()
        self.failed: List[ArtifactUploadRequestMessageInterface] = []
        self.options: Optional[Options] = None
        self.directories = NO_DIRECTORIES
        self.answered: Dict[int, Answered] = {}
        self._submit = submit
        self._answered_at = -math.inf
        self._max_bytes = max_bytes
        self._kept_bytes = 0

    def begin(self, options: Options, secrets: Sequence[str]) -> None:
        """Takes over from a call that begins its upload callback and its artifact directories.

        Args:
            options: The call's options.
            secrets: What must not appear in the text of an exception.
        """
        named = [str(each) for each in (*(options.artifacts_dirs or ()), options.artifacts_dir) if each]
        if named or self.directories is not NO_DIRECTORIES:
            self.directories = self.directories.and_also(named, options.secrets_to_redact, secrets)
        if options.on_artifact_upload_request is not None:
            self.options = options

    def keep(self, request: ArtifactUploadRequestMessageInterface) -> bool:
        """Keeps a request until it is answered; returns whether there was room for it."""
        if not self.kept and not self.failed:
            # An interrupt may have left the count wrong.
            self._kept_bytes = 0
        if self._kept_bytes > self._max_bytes:
            return False
        self.kept.append(request)
        self._kept_bytes += _size(request)
        return self._kept_bytes <= self._max_bytes

    @property
    def has_room(self) -> bool:
        """Whether less than half of `max_bytes` is in use."""
        return self._kept_bytes * 2 < self._max_bytes

    @property
    def can_be_served(self) -> bool:
        """Whether there is a request and a callback that can answer it."""
        return bool(self.kept) and self.options is not None

    @property
    def expected(self) -> bool:
        """Whether files may get lost: a call asked for artifacts, or the runtime announced some anyway."""
        return bool(self.kept) or self.options is not None

    def serve_next(self, call: Call, callbacks: Callbacks) -> None:
        """Answers the first request by the last upload callback; raises as `ask_next`."""
        self.answer_next(self.ask_next(callbacks), call)

    def ask_next(self, callbacks: Callbacks) -> bytes:
        """Returns the callback's answer to the first request, which stays in `kept`.

        If this raises, the request moves to `failed`.

        Raises:
            ArtifactUploadError: No call had an upload callback.
            Exception: Whatever the callback raises.
        """
        request = self.kept[0]
        announce_in(request, self.directories)
        try:
            return callbacks.upload(request, self.options)
        except BaseException:
            self.failed.append(request)
            self.kept.popleft()
            raise

    def answer_next(self, response: bytes, call: Call) -> None:
        """Sends the answer to the first request and removes it."""
        self._submit(response)
        self._answered_at = call.now()
        request = self.kept[0]
        options = self.options
        if options is not None and session_ended(options) is not None:
            callback = options.on_artifact_upload_request
            answered = self.answered.setdefault(id(callback), Answered(options, {}))
            answered.requests[request.filepath] = request
        # Last, as in `ask_next`: after an interrupt the request is served twice rather than never.
        self.kept.popleft()
        self._kept_bytes -= _size(request)

    def give_up(self) -> List[str]:
        """Moves all unanswered requests to `failed`; returns their paths in the sandbox."""
        paths = [request.filepath for request in self.kept]
        self.failed += self.kept
        self.kept.clear()
        return paths

    def retry_failed(self) -> None:
        """Moves the failed requests to the front of `kept`, to be served again."""
        self.kept.extendleft(reversed(self.failed))
        self.failed = []

    def worth_waiting_until(self, now: float) -> float:
        """Returns until when to wait for the runtime to confirm the session's end, on the calls' clock.

        The runtime does not confirm while a request is unanswered, and a failed one stays unanswered. Then it is only
        worth waiting for further announcements and for running uploads.
        """
        if not self.failed:
            return math.inf
        return max(now + LATE_FILES, self._answered_at + RUNNING_UPLOADS)


def _size(request: ArtifactUploadRequestMessageInterface) -> int:
    """Returns the approximate memory of a request in bytes: always the same number for the same request."""
    texts = (request.filename, request.filepath)
    return _OVERHEAD + sum(len(text) if text.isascii() else 4 * len(text) for text in texts)
