"""Keeping secrets out of logs, reprs and exception texts.

Pure functions; no threads run here. Secrets are the values of `secrets_to_redact`, of environment variables handed to
agent or commands, of headers, and what URLs hold (`urls.py`).
"""

import json
import re
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

MASK = "[REDACTED]"

#: Values of environment variables and headers that are shorter than this ("1", "on", "dev") are words, not secrets:
#: masking them would only garble text.
MIN_ENV_SECRET_LENGTH = 4

#: What programs print for terminals: colours and the like, which may stand in the middle of a secret.
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)")


def env_secrets(*environments: Optional[Mapping[str, str]]) -> List[str]:
    """Returns the values of the given environments that are long enough to be a secret."""
    return [value for env in environments if env for value in env.values() if len(value) >= MIN_ENV_SECRET_LENGTH]


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Returns `text` with every place where a secret stands masked; places that overlap are masked as one.

    Where a secret has colours in it, which would come off where the text is shown, the text loses all of its colours.
    """
    secrets = {secret for secret in secrets if secret}
    masked = _scrub(text, secrets)
    if "\x1b" in text:
        plain = _scrub(ESCAPES.sub("", text), secrets)
        if plain != ESCAPES.sub("", masked):
            return plain
    return masked


def _scrub(text: str, secrets: Set[str]) -> str:
    places: List[Tuple[int, int]] = []
    for secret in secrets:
        start = text.find(secret)
        while start >= 0:
            places.append((start, start + len(secret)))
            start = text.find(secret, start + 1)
    masked = []
    at = 0
    for start, end in sorted(places):
        if start >= at:
            masked += [text[at:start], MASK]
        at = max(at, end)
    return "".join(masked) + text[at:] if masked else text


def redacted_forms(text: str, secrets: Sequence[str]) -> Set[str]:
    """Returns what a runtime may make of a text in which it masks secrets, and the text itself.

    Runtimes differ in how they do it: in one pass, or secret by secret, in the given order or the longest first.
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
    """Returns secrets also as they look inside the `repr`, and the JSON, of a longer string."""
    plain = list(secrets)
    return plain + [form for secret in plain for form in (repr(secret)[1:-1], json.dumps(secret)[1:-1])]


def scrub_value(value: Any, secrets: Iterable[str]) -> Any:
    """Returns a copy of a JSON value, however deep, with every secret masked in every string and key of it."""
    secrets = list(secrets)
    masked: List[Any] = [None]
    # Not recursive: what could be parsed must not fail here for its depth.
    waiting: List[Tuple[Any, Any, Any]] = [(masked, 0, value)]
    while waiting:
        into, key, item = waiting.pop()
        if isinstance(item, str):
            into[key] = scrub(item, secrets)
        elif isinstance(item, dict):
            names = {name: scrub(name, secrets) if isinstance(name, str) else name for name in item}
            into[key] = dict.fromkeys(names.values())
            waiting += [(into[key], names[name], inner) for name, inner in item.items()]
        elif isinstance(item, (list, tuple)):
            into[key] = [None] * len(item)
            waiting += [(into[key], index, inner) for index, inner in enumerate(item)]
        else:
            into[key] = item
    return masked[0]


def header_secrets(headers: Dict[str, str]) -> List[str]:
    """Returns the values of headers, and the words in them ("Bearer …", "sid=…"), that are long enough to be secret."""
    values = list(headers.values())
    words = [part for value in values for part in re.split(r"[\s;,=]+", value)]
    return [secret for secret in values + words if len(secret) >= MIN_ENV_SECRET_LENGTH]
