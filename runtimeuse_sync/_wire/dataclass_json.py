"""JSON for the public dataclasses: `to_dict`, `from_dict`, `to_json` and `from_json`, by means of dataclasses-json.

dataclasses-json is imported on the first call, not with the package: importing it takes longer than importing the whole
client, and most programs never convert an option or a result to JSON. Messages on the wire have their own codec
(`codec.py`), because `from_dict` validates nothing.

Threads: nothing is shared; each function runs in its caller's thread.
"""

import dataclasses
from typing import Any, Callable, Dict, List, Mapping, Optional, Type, TypeVar, Union

from .validation import check_type

_T = TypeVar("_T", bound="JsonMixin")


def json_field(
    *,
    encoder: Optional[Callable[[Any], Any]] = None,
    decoder: Optional[Callable[[Any], Any]] = None,
    exclude: bool = False,
) -> Dict[str, Any]:
    """Returns the field metadata that `dataclasses_json.config` would return, without importing it."""
    config: Dict[str, Any] = {}
    if encoder is not None:
        config["encoder"] = encoder
    if decoder is not None:
        config["decoder"] = decoder
    if exclude:
        config["exclude"] = _always
    return {"dataclasses_json": config}


def _always(_: Any) -> bool:
    return True


def env_field() -> Dict[str, Any]:
    """Returns the field metadata of an environment: any mapping in Python, an object in JSON, with secret values."""
    return {"secret": "values", **json_field(encoder=_plain, decoder=_plain)}


def _plain(value: Any) -> Any:
    """Returns a mapping as a dict: others, such as `os.environ`, can be neither pickled nor converted to JSON."""
    return dict(value) if isinstance(value, Mapping) and type(value) is not dict else value


class JsonMixin:
    """Converts a dataclass to and from JSON, with the four methods of dataclasses-json's `DataClassJsonMixin`."""

    def __getstate__(self) -> Dict[str, Any]:
        return {name: _plain(value) for name, value in vars(self).items()}

    def to_dict(self, encode_json: bool = False) -> Dict[str, Any]:
        """Returns the fields as a dict.

        Args:
            encode_json: Whether to convert values that JSON lacks as well, so that `json.dumps` accepts the dict.
                Default: `False`.
        """
        return dict(_mixin().to_dict(self, encode_json=encode_json))

    def __json__(self) -> Dict[str, Any]:
        """Returns the fields as JSON values, for encoders that ask for them: kombu's, and so Celery's."""
        return self.to_dict(encode_json=True)

    @classmethod
    def from_dict(cls: Type[_T], kvs: Mapping[str, Any], *, infer_missing: bool = False) -> _T:
        """Returns an instance with the fields that `to_dict` returned.

        Args:
            kvs: The fields by name. Unknown names are ignored.
            infer_missing: Whether a missing field becomes `None` if it has no default. Default: `False`.

        Raises:
            KeyError: A required field is missing.
            TypeError: A field has the wrong type. Only options check this.
            ValueError: A field has an invalid value. Only options check this.
        """
        instance: _T = _mixin().from_dict.__func__(cls, kvs, infer_missing=infer_missing)
        return instance

    def to_json(self, **dumps: Any) -> str:
        """Returns the fields as JSON text.

        Args:
            **dumps: Keyword arguments for `json.dumps`.
        """
        text: str = _mixin().to_json(self, **dumps)
        return text

    @classmethod
    def from_json(cls: Type[_T], text: Union[str, bytes, bytearray], *, infer_missing: bool = False) -> _T:
        """Returns an instance with the fields that `to_json` returned.

        Args:
            text: The JSON text.
            infer_missing: Whether a missing field becomes `None` if it has no default. Default: `False`.

        Raises:
            KeyError: A required field is missing.
            TypeError: A field has the wrong type. Only options check this.
            ValueError: The text is not JSON, or a field has an invalid value. Only options check values.
        """
        instance: _T = _mixin().from_json.__func__(cls, text, infer_missing=infer_missing)
        return instance


def instances_of(kind: Type[_T], name: str, items: Any) -> List[_T]:
    """Returns the instances of `kind` that a list in JSON describes, so that their values can be checked.

    Unlike dataclasses-json, this does not coerce values. It skips items that lack a required field, which
    dataclasses-json reports itself.

    Args:
        kind: A dataclass.
        name: The name of the list, for error messages.
        items: The list. Items that already are instances of `kind` are used as they are.

    Raises:
        TypeError: `items` is not a list, or an item is not an object. The message names it.
    """
    check_type(name, items, (list, tuple), f"a list of {kind.__name__}")
    instances: List[_T] = []
    for index, item in enumerate(items):
        if isinstance(item, kind):
            instances.append(item)
            continue
        check_type(f"{name}[{index}]", item, Mapping, f"the fields of a {kind.__name__}")
        fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
        if all(field.name in item or field.default is not dataclasses.MISSING for field in fields.values()):
            instances.append(kind(**{each: value for each, value in item.items() if each in fields}))
    return instances


def _mixin() -> Any:
    # Typed as Any: its methods declare `self` as an instance of the mixin, but accept any dataclass.
    from dataclasses_json import DataClassJsonMixin

    return DataClassJsonMixin
