"""`to_dict`, `from_dict`, `to_json` and `from_json` for the dataclasses that users hold, by dataclasses-json.

dataclasses-json is imported by the first call, not with the package: it takes longer to import than all the rest, and
most programs never turn an option or a result into JSON themselves. The wire has a codec of its own (`_codec.py`),
because `from_dict` validates nothing. No threads run here.
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
    """Returns field metadata as `dataclasses_json.config` does, without importing it."""
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
    """Returns field metadata for an environment: any mapping in memory, an object in JSON, its values secret."""
    return {"secret": "values", **json_field(encoder=_plain, decoder=_plain)}


def _plain(value: Any) -> Any:
    """Returns a mapping as a dict, which can be pickled and is JSON, as `os.environ` is not."""
    return dict(value) if isinstance(value, Mapping) and type(value) is not dict else value


class JsonMixin:
    """JSON for a dataclass; the four methods are those of dataclasses-json's `DataClassJsonMixin`."""

    def __getstate__(self) -> Dict[str, Any]:
        return {name: _plain(value) for name, value in vars(self).items()}

    def to_dict(self, encode_json: bool = False) -> Dict[str, Any]:
        """Returns the fields as a dict of JSON values (with `encode_json`, ready for a plain `json.dumps`)."""
        return dict(_mixin().to_dict(self, encode_json=encode_json))

    @classmethod
    def from_dict(cls: Type[_T], kvs: Mapping[str, Any], *, infer_missing: bool = False) -> _T:
        """Returns an instance made from what `to_dict` returned.

        Raises:
            KeyError: a required field is missing.
            TypeError: a field has the wrong type (options check their fields).
            ValueError: a field has a value that is not allowed (options check their fields).
        """
        made: _T = _mixin().from_dict.__func__(cls, kvs, infer_missing=infer_missing)
        return made

    def to_json(self, **dumps: Any) -> str:
        """Returns the fields as JSON text; keyword arguments are those of `json.dumps`."""
        text: str = _mixin().to_json(self, **dumps)
        return text

    @classmethod
    def from_json(cls: Type[_T], text: Union[str, bytes, bytearray], *, infer_missing: bool = False) -> _T:
        """Returns an instance made from what `to_json` returned; raises as `from_dict`, or `ValueError` for no JSON."""
        made: _T = _mixin().from_json.__func__(cls, text, infer_missing=infer_missing)
        return made


def made_of(kind: Type[_T], name: str, items: Any) -> List[_T]:
    """Returns what a list in JSON stands for, its values as they are: dataclasses-json would make them fit.

    What lacks a required field is left out, as dataclasses-json says so itself.

    Raises:
        TypeError: it is no list, or something in it is no object; the message names it.
    """
    check_type(name, items, (list, tuple), f"a list of {kind.__name__}")
    made: List[_T] = []
    for index, item in enumerate(items):
        if isinstance(item, kind):
            made.append(item)
            continue
        check_type(f"{name}[{index}]", item, Mapping, f"the fields of a {kind.__name__}")
        fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # it is one
        if all(field.name in item or field.default is not dataclasses.MISSING for field in fields.values()):
            made.append(kind(**{each: value for each, value in item.items() if each in fields}))
    return made


def _mixin() -> Any:
    # Not as the type that it is: its methods ask for instances of it, but take any dataclass.
    from dataclasses_json import DataClassJsonMixin

    return DataClassJsonMixin
