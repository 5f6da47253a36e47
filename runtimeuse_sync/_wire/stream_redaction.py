"""Masks secrets in a text that comes in pieces, wherever the pieces are cut.

Threads: no I/O, and nothing is shared. One thread at a time uses a `StreamRedactor`.
"""

from typing import Iterable, List

from .redaction import mask_secrets


class StreamRedactor:
    """Masks secrets in a text that arrives in pieces, including secrets that are split across pieces.

    An end of the text that may be the beginning of a secret is held back until the next piece or `flush`. It is always
    shorter than the longest secret.

    Args:
        secrets: The secrets.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: List[str] = [secret for secret in dict.fromkeys(secrets) if secret]
        self._held = ""
        # How many of the held characters belong to a secret that is masked already. They are held because another
        # secret may begin among them.
        self._covered = 0

    def feed(self, text: str) -> str:
        """Adds the next piece; returns the masked text that is certain by now."""
        if not self._secrets:
            return text
        self._held += text
        return self._take(self._undecided_from())

    def flush(self) -> str:
        """Ends the text; returns the masked rest."""
        return self._take(len(self._held))

    def _undecided_from(self) -> int:
        """Returns the start of the longest suffix that is the beginning of a secret."""
        held = self._held
        start = len(held)
        for secret in self._secrets:
            at = max(0, len(held) - len(secret) + 1)
            while True:
                at = held.find(secret[0], at, start)
                if at < 0:
                    break
                if secret.startswith(held[at:]):
                    start = at
                    break
                at += 1
        return start

    def _take(self, end: int) -> str:
        masked, covered = mask_secrets(self._held, self._secrets, self._covered, end)
        self._held = self._held[end:]
        self._covered = covered - end
        return masked
