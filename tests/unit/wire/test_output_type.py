"""Output types: their schemas, what is made of answers, where problems are, and what is no type."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import json
import sys
import types
import uuid
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Generic,
    List,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Set,
    Tuple,
    TypeVar,
    Union,
)

import pytest
from typing_extensions import Annotated, TypeAliasType, TypedDict

from runtimeuse_sync._wire.output_type import OutputType, output_type_of

from ...support.packages import needs

pydantic: Any = pytest.importorskip("pydantic")

T = TypeVar("T")


@dataclasses.dataclass
class Stats:
    file_count: int
    ratio: float = float("nan")


class Finding(pydantic.BaseModel):
    line: int = pydantic.Field(alias="lineNo")
    text: str


class Node(pydantic.BaseModel):
    name: str
    children: List[Node] = pydantic.Field(default_factory=list)


class Box(pydantic.BaseModel, Generic[T]):
    content: T


class Numbers(pydantic.RootModel):
    root: List[int]


class Whole(pydantic.RootModel):
    root: Node


class Movie(TypedDict):
    title: str


class Point(NamedTuple):
    x: int
    y: int


Tree = TypeAliasType("Tree", "List[Tree]")


class Deferred(pydantic.BaseModel, defer_build=True):  # type: ignore[call-arg]
    x: Later


class Later(pydantic.BaseModel):
    n: int


class Colour(enum.Enum):
    RED = "red"


class Strict(pydantic.BaseModel, strict=True):  # type: ignore[call-arg]
    day: datetime.date
    colour: Colour
    pair: Tuple[int, str]
    names: FrozenSet[str]
    raw: bytes
    id: uuid.UUID
    price: decimal.Decimal


#: An answer that fits `Strict`.
STRICT = {
    "day": "2024-02-29",
    "colour": "red",
    "pair": [1, "a"],
    "names": ["x", "y"],
    "raw": "bytes",
    "id": str(uuid.UUID(int=1)),
    "price": "1.50",
}


@dataclasses.dataclass
class Linked:
    value: int
    next: Optional[Linked] = None


def schema_of(kind: Any) -> Dict[str, Any]:
    sent = json.loads(OutputType(kind).schema_text)
    assert list(sent) == ["type", "schema"]
    assert sent["type"] == "json_schema"
    schema: Dict[str, Any] = sent["schema"]
    return schema


def parsed(kind: Any, output: Dict[str, Any]) -> Any:
    result = OutputType(kind).parse(output)
    assert result.problems == []
    return result.value


def problems(kind: Any, output: Dict[str, Any]) -> List[Tuple[str, str]]:
    value, found = OutputType(kind).parse(output)
    assert value is None
    return [(each.path, each.reason) for each in found]


# --- The schema.


@pytest.mark.parametrize("kind", [Stats, Finding, Node, Whole, Linked, Movie, Box[int], Dict[str, int]])
def test_an_object_is_not_wrapped(kind: Any) -> None:
    schema = schema_of(kind)
    assert schema["type"] == "object"
    assert "value" not in schema.get("properties", {}) or kind is Linked
    assert "$ref" not in schema


@pytest.mark.parametrize(
    ("kind", "root"),
    [
        (List[int], {"type": "array", "items": {"type": "integer"}}),
        (int, {"type": "integer"}),
        (type(None), {"type": "null"}),
        (Any, {}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}),
        (Annotated[int, pydantic.Field(gt=3)], {"type": "integer", "exclusiveMinimum": 3}),
        (Tree, {"$ref": "#/$defs/Tree"}),
        (Optional[Movie], {"anyOf": [{"$ref": "#/$defs/Movie"}, {"type": "null"}]}),
        (Union[Finding, Movie], {"anyOf": [{"$ref": "#/$defs/Finding"}, {"$ref": "#/$defs/Movie"}]}),
    ],
)
def test_anything_else_is_wrapped(kind: Any, root: Dict[str, Any]) -> None:
    schema = schema_of(kind)
    definitions = schema.pop("$defs", {})
    assert schema == {
        "type": "object",
        "properties": {"value": root},
        "required": ["value"],
        "additionalProperties": False,
    }
    referred = {name for name in ("Movie", "Finding", "Tree") if f"/{name}" in json.dumps(root)}
    assert set(definitions) == referred


@needs("jsonschema")
@pytest.mark.parametrize(
    ("kind", "output"),
    [
        (Node, {"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]}),
        (Linked, {"value": 1, "next": {"value": 2, "next": None}}),
        (List[Node], {"value": [{"name": "a"}]}),
        (Numbers, {"value": [1, 2]}),
        (Optional[Linked], {"value": {"value": 1}}),
        (Strict, STRICT),
    ],
)
def test_what_fits_is_valid_by_the_schema(kind: Any, output: Dict[str, Any]) -> None:
    jsonschema: Any = pytest.importorskip("jsonschema")
    schema = schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(output, schema)
    parsed(kind, output)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"other": 1}, schema)


def test_the_schema_is_that_of_input_by_alias() -> None:
    class Both(pydantic.BaseModel):
        given: int = pydantic.Field(alias="givenAs", default=3)

        @pydantic.computed_field  # type: ignore[prop-decorator]
        @property
        def computed(self) -> int:
            return self.given

    schema = schema_of(Both)
    assert list(schema["properties"]) == ["givenAs"]
    assert schema.get("required") is None


def test_a_default_that_json_lacks() -> None:
    assert schema_of(Stats)["properties"]["ratio"]["default"] is None


# --- What is made of an answer.


def test_values_are_validated_as_json() -> None:
    assert parsed(Strict, STRICT) == Strict(
        day=datetime.date(2024, 2, 29),
        colour=Colour.RED,
        pair=(1, "a"),
        names=frozenset({"x", "y"}),
        raw=b"bytes",
        id=uuid.UUID(int=1),
        price=decimal.Decimal("1.50"),
    )


@pytest.mark.parametrize(
    ("kind", "output", "value"),
    [
        (Stats, {"file_count": 2, "ratio": 0.5}, Stats(2, 0.5)),
        (Finding, {"lineNo": 1, "text": "x"}, Finding(lineNo=1, text="x")),
        (Movie, {"title": "M"}, {"title": "M"}),
        (Linked, {"value": 1, "next": {"value": 2}}, Linked(1, Linked(2))),
        (Box[Movie], {"content": {"title": "M"}}, Box[Movie](content={"title": "M"})),
        (Whole, {"name": "a"}, Whole(Node(name="a"))),
        (Dict[str, int], {"value": 1}, {"value": 1}),
        (Tree, {"value": [[], [[]]]}, [[], [[]]]),
        (Deferred, {"x": {"n": 1}}, Deferred(x=Later(n=1))),
        (List[Stats], {"value": [{"file_count": 1, "ratio": 1}]}, [Stats(1, 1.0)]),
        (Numbers, {"value": [1]}, Numbers([1])),
        (Point, {"value": [1, 2]}, Point(1, 2)),
        (Optional[Stats], {"value": None}, None),
        (type(None), {"value": None}, None),
        (Set[int], {"value": [1, 1, 2]}, {1, 2}),
        (NewType("Id", int), {"value": 3}, 3),
        (Any, {"value": {"any": ["thing"]}}, {"any": ["thing"]}),
        (List[float], {"value": [float("inf")]}, [float("inf")]),
        (int, {"value": 10**30, "beside": 1}, 10**30),
        (str, {"value": "\0 and ü"}, "\0 and ü"),
    ],
)
def test_an_answer_that_fits(kind: Any, output: Dict[str, Any], value: Any) -> None:
    made = parsed(kind, output)
    assert made == value
    assert type(made) is type(value)


class Circle(pydantic.BaseModel):
    kind: Literal["circle"]
    radius: int


class Square(pydantic.BaseModel):
    kind: Literal["square"]
    side: int


class Drawing(pydantic.BaseModel):
    shapes: List[Union[Circle, Square]]


@pytest.mark.parametrize(
    ("kind", "output", "paths"),
    [
        (Stats, {}, ["file_count"]),
        (Stats, {"file_count": "x", "ratio": None}, ["file_count", "ratio"]),
        (Finding, {"line": 1, "text": "x"}, ["lineNo"]),
        (List[Finding], {"value": [{"lineNo": 1, "text": "x"}, {"text": 3}]}, ["[1].lineNo", "[1].text"]),
        (List[List[int]], {"value": [[], [1, "x"]]}, ["[1][1]"]),
        (Node, {"name": "a", "children": [{"name": "b"}, {"name": 1}]}, ["children[1].name"]),
        (int, {"value": "x"}, [""]),
        (Dict[str, int], {"a": "x"}, ["a"]),
        (Dict[int, int], {"a": 1}, ["a<[key]>"]),
        (Union[int, Stats], {"value": {"file_count": "x"}}, ["<int>", "<Stats>.file_count"]),
        (
            Drawing,
            {"shapes": [{"kind": "circle", "radius": "x"}]},
            ["shapes[0]<Circle>.radius", "shapes[0]<Square>.kind", "shapes[0]<Square>.side"],
        ),
        (Tuple[int, int], {"value": [1]}, ["[1]"]),
    ],
)
def test_where_the_problems_are(kind: Any, output: Dict[str, Any], paths: List[str]) -> None:
    found = problems(kind, output)
    assert [path for path, _ in found] == paths
    assert all(reason for _, reason in found)


@pytest.mark.parametrize("output", [{}, {"values": []}, {"name": "a"}])
def test_an_answer_without_the_wrapper(output: Dict[str, Any]) -> None:
    assert problems(List[Node], output) == [("", 'The key "value", which holds the value, is missing')]


@pytest.mark.parametrize("depth", [500, 100_000])
def test_an_answer_that_is_nested_too_deeply(depth: int) -> None:
    nested: Any = "x"
    for _ in range(depth):
        nested = [nested]
    [(path, reason)] = problems(Any, {"value": nested})
    assert path == ""
    assert "deep" in reason or "recursion" in reason


def test_what_a_validator_raises() -> None:
    class Picky(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            if n == 0:
                raise ValueError("is\nzero")
            raise ZeroDivisionError("not pydantic's")

    assert problems(Picky, {"n": 0}) == [("n", "Value error, is\nzero")]
    with pytest.raises(ZeroDivisionError):
        OutputType(Picky).parse({"n": 1})


# --- Names.

LONG: Any = Dict[str, Literal["x" * 300]]  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Stats, "Stats"),
        (int, "int"),
        (List[Finding], "List[Finding]"),
        (Dict[str, List[Stats]], "Dict[str, List[Stats]]"),
        (Literal["a.b", 1], "Literal['a.b', 1]"),
        (Annotated[List[Stats], pydantic.Field(min_length=1)], "List[Stats]"),
        (Box[int], "Box[int]"),
        (LONG, "Dict[str, Literal['" + "x" * 180 + "…"),
    ],
)
def test_what_a_type_is_called(kind: Any, name: str) -> None:
    assert OutputType(kind).name == name


def test_the_name_of_a_class_in_a_function() -> None:
    @dataclasses.dataclass
    class Local:
        n: int

    assert OutputType(Local).name == "Local"
    assert OutputType(List[Local]).name == "List[Local]"


# --- What is kept.


def test_types_are_kept_ready() -> None:
    for kind in (Stats, List[Finding], Optional[Node], Literal["a"]):
        assert output_type_of(kind) is output_type_of(kind)
    assert output_type_of(List[Finding]) is output_type_of(List[Finding])


def test_types_that_are_equal_but_not_the_same_are_told_apart() -> None:
    one, other = Union[Finding, Movie], Union[Movie, Finding]
    assert one == other
    assert output_type_of(one).schema_text != output_type_of(other).schema_text

    def make(kind: Any) -> Any:
        return dataclasses.make_dataclass("Same", [("x", kind)])

    assert output_type_of(make(int)).schema_text != output_type_of(make(str)).schema_text


def test_only_so_many_types_are_kept() -> None:
    first = dataclasses.make_dataclass("First", [("x", int)])
    ready = output_type_of(first)
    assert output_type_of(first) is ready
    for _ in range(128):
        output_type_of(dataclasses.make_dataclass("Another", [("x", int)]))
    assert output_type_of(first) is not ready


def test_a_type_that_cannot_be_hashed() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
            return {**handler(schema), "title": "unhashable"}

    kind = Annotated[int, Unhashable()]
    with pytest.raises(TypeError):
        hash(kind)
    assert json.loads(output_type_of(kind).schema_text)["schema"]["properties"]["value"]["title"] == "unhashable"


def test_names_in_annotations_are_looked_up_where_the_call_is() -> None:
    def first() -> Any:
        class Local(pydantic.BaseModel):
            a: int

        return output_type_of(List["Local"]).parse({"value": [{"a": 1}]}), Local

    def second() -> Any:
        class Local(pydantic.BaseModel):
            b: int

        return output_type_of(List["Local"]).parse({"value": [{"b": 2}]}), Local

    for function in (first, second):
        result, local = function()
        assert result.problems == []
        assert type(result.value[0]) is local


# --- What is no type.

WANTED = "^output_type must be a type, such as a pydantic model, a dataclass or List"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("Stats", "not str; a JSON schema is passed as output_format_json_schema_str"),
        (b"{}", "not bytes; a JSON schema"),
        ({"type": "object"}, "not dict; a JSON schema"),
        (5, "not int"),
        (True, "not bool"),
        ([int], "not list"),
        ((int, str), "not tuple"),
        (len, "not builtin_function_or_method"),
        (functools.partial(Stats, 1), "not partial"),
        (Stats(1), "not an instance of Stats"),
        (Node(name="a"), "not an instance of Node"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_is_no_type(kind: Any, told: str) -> None:
    with pytest.raises(TypeError, match=WANTED) as caught:
        output_type_of(kind)
    assert told in str(caught.value)


def test_a_function_is_no_type() -> None:
    def function(x: int) -> int:
        return x

    with pytest.raises(TypeError, match=WANTED):
        output_type_of(function)


class Opaque:
    pass


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Callable[[int], int], "Callable"),
        (List[Callable[[], int]], "List"),
        (Opaque, "Opaque"),
        (Dict[str, Opaque], "Opaque"),
        (List["Nowhere"], "Nowhere"),  # type: ignore[name-defined]  # noqa: F821
        (object(), "object"),
    ],
    ids=lambda each: "",
)
def test_types_that_have_no_schema(kind: Any, name: str) -> None:
    for _ in range(2):
        with pytest.raises(TypeError, match=r"^output_type: pydantic cannot make a JSON schema of ") as caught:
            output_type_of(kind)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


# --- What is not installed.


def test_without_pydantic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(ImportError, match=r"runtimeuse-sync\[pydantic\]") as caught:
        output_type_of(dataclasses.make_dataclass("New", [("x", int)]))
    assert caught.value.name == "pydantic"


def test_with_pydantic_1(monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("pydantic")
    vars(old).update(VERSION="1.10.2", BaseModel=object)
    monkeypatch.setitem(sys.modules, "pydantic", old)
    with pytest.raises(ImportError, match=r"pydantic 2, but pydantic 1\.10\.2 .*runtimeuse-sync\[pydantic\]"):
        output_type_of(dataclasses.make_dataclass("New", [("x", int)]))
