"""A `repr` without secrets, for dataclasses that carry some.

Threads: a mixin without locks; it runs in its caller's thread.
"""

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Type

from .redaction import MASK, env_secrets, scrub
from .urls import mask_url, url_secrets

#: For each dataclass seen so far: its fields, each with the `secret` entry of its metadata.
_secret_fields: Dict[type, Dict[str, Optional[str]]] = {}


def _fields_of(kind: Type[Any]) -> Dict[str, Optional[str]]:
    """Returns the fields of a dataclass, each with the `secret` entry of its metadata."""
    fields = _secret_fields.get(kind)
    if fields is None:
        fields = {field.name: field.metadata.get("secret") for field in dataclasses.fields(kind)}
        _secret_fields[kind] = fields
    return fields


class SafeRepr:
    """Gives a dataclass a `repr` that shows the fields that are set, without secrets.

    A field's metadata declares its secrets: `{"secret": "values"}` means the values of a list or mapping,
    `{"secret": "url"}` the user, password and query string of a URL. Secrets are also masked wherever else they occur
    in the `repr`.
    """

    def secret_values(self) -> List[str]:
        """Returns the secrets of this object and of the objects nested in it."""
        found: List[str] = []
        fields = _fields_of(type(self))
        for name, value in vars(self).items():
            if not value or name not in fields:
                continue
            secret = fields[name]
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
        # Inside the repr of a longer string, a secret is escaped.
        secrets = self.secret_values()
        secrets += [repr(secret)[1:-1] for secret in secrets]
        shown = []
        kind: Type[Any] = type(self)
        for field in dataclasses.fields(kind):
            value = getattr(self, field.name)
            if value is None or value == [] or not field.repr:
                continue
            if isinstance(value, str) and "secret" not in field.metadata:
                # Mask before `repr`, which may escape a quote in the secret.
                value = scrub(value, secrets)
            shown.append(f"{field.name}={scrub(_masked_repr(value, field.metadata.get('secret')), secrets)}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _masked_repr(value: Any, secret: Optional[str]) -> str:
    if secret == "values":
        if isinstance(value, Mapping):
            return repr(dict.fromkeys(value, MASK))
        return repr([MASK for _ in value]) if isinstance(value, (list, tuple)) else repr(MASK)
    if secret == "url":
        return repr(mask_url(value) if isinstance(value, str) else MASK)
    return repr(value)
