"""Masks secrets in a text that comes in pieces, wherever the pieces are cut.

Runtimes mask secrets in each message by itself, so a secret that is split over two messages arrives as it is.

Threads: whoever feeds it.
"""

from typing import Iterable, List

from .._wire.redaction import mask_secrets


class Masking:
    """Passes a text on, piece by piece, with its secrets masked.

    It holds back the end of a piece where that may be the beginning of a secret.

    Args:
        secrets: The secrets.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: List[str] = [secret for secret in dict.fromkeys(secrets) if secret]
        # What may belong to a secret that goes on in the next piece; the first part of it has been shown masked.
        self._held = ""
        self._masked = 0

    def feed(self, piece: str) -> str:
        """Returns what can be shown, now that this piece has come."""
        if not self._secrets:
            return piece
        text = self._held + piece
        kept_from = len(text) - max(_begun(secret, text) for secret in self._secrets)
        shown, done = "", self._masked
        if kept_from > done:
            shown, done = mask_secrets(text, self._secrets, done, kept_from)
        self._held, self._masked = text[kept_from:], done - kept_from
        return shown

    def end(self) -> str:
        """Returns what is held back: no more comes."""
        shown, _ = mask_secrets(self._held, self._secrets, self._masked)
        self._held, self._masked = "", 0
        return shown


def _begun(secret: str, text: str) -> int:
    """Returns how long the end of a text is that is the beginning, and not all, of a secret."""
    longest = min(len(secret) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(secret[:size])), 0)
