"""Masks the secrets of `--secret` in everything that is written, whether or not the runtime has masked them.

Output comes in chunks, and a secret may be cut by the end of one. So the end of a chunk that may be the beginning of a
secret is held back until the next chunk of that stream, or the end.

Threads: one thread, the one that performs the run; `text` may be called in any.
"""

import dataclasses
from typing import Any, Dict, List, Sequence, Tuple

from .._wire.stream_redaction import StreamRedactor
from ..messages import AssistantMessageInterface, CommandOutputMessageInterface, StreamedMessage


class Masking:
    """Masks a fixed set of secrets.

    Args:
        secrets: The secrets.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._redactor: Any = None
        #: For each stream, the last message without its text, and what masks its text.
        self._streams: Dict[str, Tuple[CommandOutputMessageInterface, Any]] = {}
        if secrets:
            # Only where it is needed: importing the runtime takes longer than a query.
            from ..runtime.masking import Redactor

            self._redactor = Redactor(secrets)

    def text(self, text: str) -> str:
        """Returns the text with every secret masked."""
        masked: str = text if self._redactor is None else self._redactor.text(text)
        return masked

    def json(self, message: Dict[str, Any]) -> Dict[str, Any]:
        """Returns a message as JSON with every secret masked."""
        masked: Dict[str, Any] = message if self._redactor is None else self._redactor.message(message)
        return masked

    def messages(self, message: StreamedMessage) -> List[StreamedMessage]:
        """Returns what to show for a message: it, masked; nothing yet; or with it what was held back before."""
        if self._redactor is None:
            return [message]
        if isinstance(message, AssistantMessageInterface):
            blocks = [self.text(block) for block in message.text_blocks]
            return [dataclasses.replace(message, text_blocks=blocks)]
        if not isinstance(message, CommandOutputMessageInterface):
            return [message]
        shown: List[StreamedMessage] = []
        begun = self._streams.get(message.stream)
        if begun is not None and begun[0].command != message.command:
            shown += self._rest_of(message.stream)
            begun = None
        if begun is None:
            plain = dataclasses.replace(message, text="", command=message.command)
            begun = self._streams[message.stream] = (plain, StreamRedactor(self._redactor.secrets))
        text = begun[1].feed(message.text)
        if text:
            shown.append(dataclasses.replace(message, text=text, command=self.text(message.command)))
        return shown

    def rest(self) -> List[StreamedMessage]:
        """Returns what is still held back, at the end."""
        shown: List[StreamedMessage] = []
        for stream in list(self._streams):
            shown += self._rest_of(stream)
        return shown

    def _rest_of(self, stream: str) -> List[StreamedMessage]:
        message, redactor = self._streams.pop(stream)
        text = redactor.flush()
        return [dataclasses.replace(message, text=text, command=self.text(message.command))] if text else []
