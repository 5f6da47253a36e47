"""Keeping secrets out of logs, reprs and exception texts.

Pure functions and one mixin; no threads run here. Secrets are the values of `secrets_to_redact`, of environment
variables handed to agent or commands, the query strings of presigned URLs, and whatever a WebSocket URL carries
besides scheme, host and port.
"""

import dataclasses
import json
import re
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple, Type
from urllib.parse import unquote, unquote_plus, urlsplit

from .validation import bracketed

MASK = "[REDACTED]"

#: Values of environment variables and headers that are shorter than this ("1", "on", "dev") are words, not secrets:
#: masking them would only garble text.
MIN_ENV_SECRET_LENGTH = 4

#: The same for the segments of a URL's path.
MIN_PATH_TOKEN = 8

#: What programs print for terminals: colours and the like, which may stand in the middle of a secret.
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)")

_HEADER = "host|range|content-(disposition|encoding|language|length|md5|type)|x-amz-(acl|content-sha256|date)"
_HTTP_DATE = r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?Z)?"
_MEDIA_TYPE = "application/(gzip|json|octet-stream|pdf|xml|zip)|image/(gif|jpeg|png)|text/(csv|html|markdown|plain|xml)"

#: What presigned URLs of S3, Google and Azure hold besides their secrets, by the parameter's name: words and numbers
#: that stand in many a text, `localhost` for one. Only what is exactly of this form is left unmasked.
_HARMLESS = {
    "x-amz-algorithm": "AWS4-(HMAC|ECDSA-P256)-SHA256",
    "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
    "x-amz-date": r"\d{8}T\d{6}Z",
    "x-amz-expires": r"\d{1,6}",
    "x-amz-signedheaders": f"({_HEADER})(;({_HEADER}))*",
    "x-id": "GetObject|PutObject|UploadPart",
    "x-goog-algorithm": "GOOG4-(HMAC|RSA)-SHA256",
    "x-goog-date": r"\d{8}T\d{6}Z",
    "x-goog-expires": r"\d{1,6}",
    "x-goog-signedheaders": f"({_HEADER})(;({_HEADER}))*",
    "spr": "https?(,https?)?",
    "sv": _HTTP_DATE,
    "st": _HTTP_DATE,
    "se": _HTTP_DATE,
    "rsct": _MEDIA_TYPE,
    "content-type": _MEDIA_TYPE,
    "response-content-type": _MEDIA_TYPE,
}


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


def url_origin(url: str) -> str:
    """Returns scheme, host and port of a URL: the only parts of a WebSocket URL that are never secret."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return MASK
    return f"{parts.scheme}://{bracketed(host)}{port}"


def url_secrets(url: str) -> List[str]:
    """Returns the parts of a URL that may be secret: its query string and the values in it, user and password.

    The names of parameters are none: `token` stands in many a text that has nothing to do with the URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return [url]
    found = [part for part in (parts.query, parts.username, parts.password) if part]
    found += [unquote(part) for part in (parts.username, parts.password) if part]
    return found + [value for value in _query_values(parts.query) if len(value) >= MIN_ENV_SECRET_LENGTH]


def _query_values(query: str) -> Set[str]:
    """Returns the values of a query string that may be secret, each as it stands there and decoded."""
    values: Set[str] = set()
    for parameter in query.split("&"):
        if _is_harmless(parameter):
            continue
        # A few servers take semicolons for separators, too.
        for piece in {parameter, *parameter.split(";")}:
            # What seems to be a name without a value may be a token by itself, in base64 with its padding.
            value = piece.partition("=")[2] if piece.rstrip("=").count("=") else piece
            # Also without the padding of base64, and the parts of what has a parameter inside it.
            for form in (value, value.rstrip("="), *value.split("=")):
                values |= {form, unquote(form), unquote_plus(form)}
    return values


def _is_harmless(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    form = _HARMLESS.get(unquote(name).lower())
    return form is not None and re.fullmatch(form, unquote(value), re.ASCII) is not None


def path_secrets(url: str) -> List[str]:
    """Returns the parts of a URL's path that are long enough to be a token."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return []
    return [part for segment in path.split("/") for part in (segment, unquote(segment)) if len(part) >= MIN_PATH_TOKEN]


def header_secrets(headers: Dict[str, str]) -> List[str]:
    """Returns the values of headers, and the words in them ("Bearer …", "sid=…"), that are long enough to be secret."""
    values = list(headers.values())
    words = [part for value in values for part in re.split(r"[\s;,=]+", value)]
    return [secret for secret in values + words if len(secret) >= MIN_ENV_SECRET_LENGTH]


def mask_url(url: str) -> str:
    """Returns a presigned or download URL without user, query string and fragment."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return MASK
    masked = url_origin(url) + path
    return masked if masked == url else masked + "?" + MASK


_known_kinds: Dict[type, Dict[str, Optional[str]]] = {}


def _kinds_of_secret(kind: Type[Any]) -> Dict[str, Optional[str]]:
    """Returns the fields of a dataclass, each with what its metadata say of secrets."""
    kinds = _known_kinds.get(kind)
    if kinds is None:
        kinds = {field.name: field.metadata.get("secret") for field in dataclasses.fields(kind)}
        _known_kinds[kind] = kinds
    return kinds


class SafeRepr:
    """Gives a dataclass a `repr` that shows what is set, and no secret.

    A field's metadata says how: `{"secret": "values"}` masks the values of a list or dict, `{"secret": "url"}` masks
    user and query string. The masked values are then masked wherever else they stand in the text.
    """

    def secret_values(self) -> List[str]:
        """Returns the secrets that this object carries, its nested objects' included."""
        found: List[str] = []
        kinds = _kinds_of_secret(type(self))
        for name, value in vars(self).items():
            if not value or name not in kinds:
                continue
            secret = kinds[name]
            if secret == "values":
                if isinstance(value, Mapping):
                    found += env_secrets({str(k): v for k, v in value.items() if isinstance(v, str)})
                elif isinstance(value, (list, tuple)):
                    found += [item for item in value if isinstance(item, str)]
            if secret == "url" and isinstance(value, str):
                found += url_secrets(value)
            for item in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(item, SafeRepr):
                    found += item.secret_values()
        return found

    def __repr__(self) -> str:
        # Also as they look inside the repr of a longer string.
        secrets = self.secret_values()
        secrets += [repr(secret)[1:-1] for secret in secrets]
        shown = []
        kind: Type[Any] = type(self)
        for field in dataclasses.fields(kind):
            value = getattr(self, field.name)
            if value is None or value == [] or not field.repr:
                continue
            if isinstance(value, str) and "secret" not in field.metadata:
                # Before `repr`, which may escape a quote in the secret.
                value = scrub(value, secrets)
            shown.append(f"{field.name}={scrub(_masked(value, field.metadata.get('secret')), secrets)}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _masked(value: Any, secret: Optional[str]) -> str:
    if secret == "values":
        if isinstance(value, Mapping):
            return repr(dict.fromkeys(value, MASK))
        return repr([MASK for _ in value]) if isinstance(value, (list, tuple)) else repr(MASK)
    if secret == "url":
        return repr(mask_url(value) if isinstance(value, str) else MASK)
    return repr(value)
