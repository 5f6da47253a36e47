"""The `repr` of dataclasses that may carry secrets.

One mixin; no threads run here.
"""

import dataclasses
from typing import Any, Dict, List, Mapping, Optional, Type

from .redaction import MASK, env_secrets, scrub
from .urls import mask_url, url_secrets

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
