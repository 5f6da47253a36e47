"""Masks secrets in text: what is a secret, and how log records, reprs and exception texts hide it.

Secrets are the values of `secrets_to_redact`, of the environment variables passed to the agent or to commands, of HTTP
headers, and parts of URLs (`urls.py`).

Threads: pure functions; each runs in its caller's thread.
"""

import json
import re
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

MASK = "[REDACTED]"

#: Values of environment variables, headers and query strings with fewer characters than this ("1", "on", "dev") are
#: words, not secrets: masking them would only garble text.
MIN_SECRET_LENGTH = 4

#: The most secrets of earlier calls of a session that are masked in later ones.
MAX_EARLIER_SECRETS = 256

#: Terminal escape sequences, such as colours. Programs may print them in the middle of a secret.
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)")


def env_secrets(*environments: Optional[Mapping[str, str]]) -> List[str]:
    """Returns the values of the given environments that are long enough to be a secret."""
    return [value for env in environments if env for value in env.values() if len(value) >= MIN_SECRET_LENGTH]


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Returns `text` with every secret masked; overlapping secrets are masked as one.

    If a secret is interrupted by escape sequences, which a viewer may strip, all escape sequences are removed from the
    text.
    """
    secrets = {secret for secret in secrets if secret}
    masked, _ = mask_secrets(text, secrets)
    if "\x1b" in text:
        plain, _ = mask_secrets(ESCAPES.sub("", text), secrets)
        if plain != ESCAPES.sub("", masked):
            return plain
    return masked


def mask_secrets(text: str, secrets: Iterable[str], start: int = 0, end: Optional[int] = None) -> Tuple[str, int]:
    """Masks the secrets in a slice of a text; overlapping secrets get one mask.

    Args:
        text: The text.
        secrets: The secrets; none is empty.
        start: Where the slice begins. The text before it is masked already; a secret that begins there extends that
            mask into the slice.
        end: Where the slice ends; `None` for the end of the text. A secret that begins before it is masked even if it
            ends after it.

    Returns:
        The masked slice, and the position up to which the text is masked or returned: `end`, or beyond it the end of
        a secret.
    """
    if end is None:
        end = len(text)
    found: List[Tuple[int, int]] = []
    for secret in secrets:
        at = text.find(secret, 0, end - 1 + len(secret))
        while at >= 0:
            found.append((at, at + len(secret)))
            at = text.find(secret, at + 1, end - 1 + len(secret))
    masked: List[str] = []
    done = start
    for first, last in sorted(found):
        if first >= done:
            masked += (text[done:first], MASK)
        done = max(done, last)
    if not masked and start == 0 and end == len(text):
        return text, end
    masked.append(text[done:end])
    return "".join(masked), max(done, end)


def redacted_forms(text: str, secrets: Sequence[str]) -> Set[str]:
    """Returns the forms in which a runtime that masks secrets may send a text, the text itself included.

    Runtimes differ: they mask in one pass or secret by secret, and in the given order or longest first.
    """
    texts = {text}
    if secrets:
        texts.add(scrub(text, secrets))
        for order in (secrets, sorted(secrets, key=len, reverse=True)):
            masked = text
            for secret in order:
                masked = masked.replace(secret, MASK)
            texts.add(masked)
    return texts


def in_any_form(secrets: Iterable[str]) -> List[str]:
    """Returns the secrets, each also as it appears in the `repr` and in the JSON of a string that contains it."""
    plain = list(secrets)
    return plain + [form for secret in plain for form in (repr(secret)[1:-1], json.dumps(secret)[1:-1])]


def scrub_value(value: Any, secrets: Iterable[str]) -> Any:
    """Returns a copy of a JSON value of any depth with every secret masked, in strings and in keys."""
    secrets = list(secrets)
    masked: List[Any] = [None]
    # Not recursive, so that any value that could be parsed can also be masked.
    pending: List[Tuple[Any, Any, Any]] = [(masked, 0, value)]
    while pending:
        into, key, item = pending.pop()
        if isinstance(item, str):
            into[key] = scrub(item, secrets)
        elif isinstance(item, dict):
            names = {name: scrub(name, secrets) if isinstance(name, str) else name for name in item}
            into[key] = dict.fromkeys(names.values())
            pending += [(into[key], names[name], inner) for name, inner in item.items()]
        elif isinstance(item, (list, tuple)):
            into[key] = [None] * len(item)
            pending += [(into[key], index, inner) for index, inner in enumerate(item)]
        else:
            into[key] = item
    return masked[0]


def header_secrets(headers: Dict[str, str]) -> List[str]:
    """Returns the values of headers, and the words in them ("Bearer …", "sid=…"), that are long enough for a secret."""
    values = list(headers.values())
    words = [part for value in values for part in re.split(r"[\s;,=]+", value)]
    return [secret for secret in values + words if len(secret) >= MIN_SECRET_LENGTH]


def latest_secrets(secrets: Sequence[str]) -> List[str]:
    """Returns the secrets that were used last, each once, in the order of their last use: 256 at most."""
    latest_first = dict.fromkeys(reversed(secrets))
    return list(latest_first)[:MAX_EARLIER_SECRETS][::-1]
