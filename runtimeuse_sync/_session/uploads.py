"""The upload requests of one connection: kept until a callback answers them, and tried once more at the end.

They belong to no request: the runtime announces files during a call, between calls and while the session ends. None is
ever dropped; but what is kept counts: a runtime that announces more than may be kept, with nobody to answer, breaks the
protocol. No threads run here; the state is for whoever has the connection's turn (`_session/channel.py`).
"""

import math
from collections import deque
from typing import Callable, Deque, List, Optional

from .._call import Call
from ..messages import ArtifactUploadRequestMessageInterface
from ..options import Options
from .callbacks import Callbacks

#: Seconds after which a runtime that ends its session has announced all late files, and with some to spare.
LATE_FILES = 5.0

#: Seconds that a runtime gives running uploads at the end of its session (PROTOCOL.md, "Artifacts").
RUNNING_UPLOADS = 30.0


#: What a kept request takes besides its two texts, in bytes, about.
_OVERHEAD = 400


class Uploads:
    """The upload requests of one connection.

    Args:
        submit: Has a message sent.
        max_bytes: How many bytes of requests may be kept.

    Attributes:
        kept: Those that have not been answered, oldest first; they wait for a call, or the session's end.
        failed: Those that a callback failed to serve, to be tried again at the end.
        options: The options of the call that gave the last upload callback.
    """

    def __init__(self, submit: Callable[[bytes], None], max_bytes: float = math.inf) -> None:
        self.kept: Deque[ArtifactUploadRequestMessageInterface] = deque()
        self.failed: List[ArtifactUploadRequestMessageInterface] = []
        self.options: Optional[Options] = None
        self._submit = submit
        self._answered_at = -math.inf
        self._max_bytes = max_bytes
        self._kept_bytes = 0

    def keep(self, request: ArtifactUploadRequestMessageInterface) -> bool:
        """Keeps a request until it is answered; returns whether there was room for it."""
        if not self.kept and not self.failed:
            # Whatever an interrupt has left uncounted.
            self._kept_bytes = 0
        if self._kept_bytes > self._max_bytes:
            return False
        self.kept.append(request)
        self._kept_bytes += _size(request)
        return self._kept_bytes <= self._max_bytes

    @property
    def has_room(self) -> bool:
        """Whether less is kept than half of what may be."""
        return self._kept_bytes * 2 < self._max_bytes

    @property
    def can_be_served(self) -> bool:
        """Whether there is a request, and a callback to answer it."""
        return bool(self.kept) and self.options is not None

    @property
    def expected(self) -> bool:
        """Whether files may get lost: artifacts were asked for, or announced all the same."""
        return bool(self.kept) or self.options is not None

    def serve_next(self, call: Call, callbacks: Callbacks) -> None:
        """Answers the first request by the upload callback that was given last; raises as `ask_next`."""
        self.answer_next(self.ask_next(callbacks), call)

    def ask_next(self, callbacks: Callbacks) -> bytes:
        """Returns the answer to the first request, which stays the first.

        Raises:
            ArtifactUploadError: no callback was ever given.
            Exception: whatever the callback raises. In any case the request is tried once more at the end.
        """
        request = self.kept[0]
        try:
            return callbacks.upload(request, self.options)
        except BaseException:
            self.failed.append(request)
            self.kept.popleft()
            raise

    def answer_next(self, response: bytes, call: Call) -> None:
        """Sends the answer to the first request, which is done with then."""
        self._submit(response)
        self._answered_at = call.now()
        request = self.kept[0]
        # Late, here as above: an interrupt may come before any step, and rather has it served twice than never.
        self.kept.popleft()
        self._kept_bytes -= _size(request)

    def give_up(self) -> List[str]:
        """Takes all that have not been answered for failed; returns their paths in the sandbox."""
        paths = [request.filepath for request in self.kept]
        self.failed += self.kept
        self.kept.clear()
        return paths

    def retry_failed(self) -> None:
        """Puts those that failed before the others, to be served again."""
        self.kept.extendleft(reversed(self.failed))
        self.failed = []

    def worth_waiting_until(self, now: float) -> float:
        """Returns until when it makes sense to wait for the runtime to confirm the end of the session.

        It does not confirm while a request is unanswered, which one that failed stays. Then all that is worth waiting
        for is what else it announces, and what it is uploading.
        """
        if not self.failed:
            return math.inf
        return max(now + LATE_FILES, self._answered_at + RUNNING_UPLOADS)


def _size(request: ArtifactUploadRequestMessageInterface) -> int:
    """Returns how much memory a request takes, about; the same whenever it is asked."""
    texts = (request.filename, request.filepath)
    return _OVERHEAD + sum(len(text) if text.isascii() else 4 * len(text) for text in texts)
