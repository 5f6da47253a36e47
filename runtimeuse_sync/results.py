"""What calls return, as dataclasses.

Threads: plain data; nothing is shared.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Generic, List, Literal, Optional, TypeVar, Union

from ._wire.dataclass_json import JsonMixin, json_field
from ._wire.safe_repr import SafeRepr

if TYPE_CHECKING:
    from ._display.results import Answer, Ran


@dataclass
class TextResult(JsonMixin):
    """The result of a query without an output schema.

    Args:
        text: The agent's answer.
        type: `"text"`.
    """

    text: str
    type: Literal["text"] = "text"


@dataclass
class StructuredOutputResult(JsonMixin):
    """The result of a query with an output schema.

    Args:
        structured_output: The agent's answer, a JSON object.
        type: `"structured_output"`.
    """

    structured_output: Dict[str, Any]
    type: Literal["structured_output"] = "structured_output"


def data_from_json(value: Any) -> Union[TextResult, StructuredOutputResult]:
    """Returns the result that `data_to_json` converted to JSON; its `type` tells which kind it is."""
    if isinstance(value, dict) and value.get("type") == "structured_output":
        return StructuredOutputResult(structured_output=value["structured_output"])
    return TextResult(text=value["text"])


def data_to_json(data: Union[TextResult, StructuredOutputResult]) -> Dict[str, Any]:
    """Returns a result as a dict of JSON values."""
    return asdict(data)


class WrongKindOfResult(TypeError, AttributeError):
    """The result is of the other kind, text or structured.

    A `TypeError`, and an `AttributeError` so that `hasattr`, and `getattr` with a default, work as usual.
    """


@dataclass
class QueryResult(JsonMixin):
    """What `query` returns. Its `str` is the text of a text result, or the JSON of a structured one.

    Args:
        data: A `TextResult`, or a `StructuredOutputResult` if the query had an output schema.
        metadata: What the runtime reports about the run, such as token usage; `None` if nothing.
    """

    data: Union[TextResult, StructuredOutputResult] = field(
        metadata=json_field(encoder=data_to_json, decoder=data_from_json)
    )
    metadata: Optional[Dict[str, Any]] = None

    def __str__(self) -> str:
        if isinstance(self.data, TextResult):
            return self.data.text
        return json.dumps(self.data.structured_output, ensure_ascii=False)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        from ._display import results as display

        answer = self._answer()
        short = cycle or display.is_inside(printer)
        printer.text(display.answer_in_short(answer) if short else display.answer_as_text(answer))

    def _repr_html_(self) -> str:
        from ._display import results as display

        return display.answer_as_html(self._answer())

    def _answer(self) -> "Answer":
        from ._display.results import Answer

        data = self.data
        text = data.text if isinstance(data, TextResult) else None
        structured = data.structured_output if isinstance(data, StructuredOutputResult) else None
        return Answer(type(self).__name__, text, structured, self.metadata)

    @property
    def text(self) -> str:
        """The text of a text result.

        Raises:
            WrongKindOfResult: The result is structured; use `structured_output`. This is a `TypeError` and an
                `AttributeError`.
        """
        if isinstance(self.data, TextResult):
            return self.data.text
        raise WrongKindOfResult("this result is structured output, not text: use .structured_output")

    @property
    def structured_output(self) -> Dict[str, Any]:
        """The JSON object of a structured result.

        Raises:
            WrongKindOfResult: The result is text; use `text`. This is a `TypeError` and an `AttributeError`.
        """
        if isinstance(self.data, StructuredOutputResult):
            return self.data.structured_output
        raise WrongKindOfResult("this result is text, not structured output: use .text")

    if not TYPE_CHECKING:
        # Type checkers know `parsed` only where it is, in `TypedQueryResult`.

        @property
        def parsed(self) -> Any:
            """The instance of the query's `output_type`, if it had one.

            Raises:
                WrongKindOfResult: The query had none. This is a `TypeError` and an `AttributeError`.
            """
            raise WrongKindOfResult("this result is not parsed: pass output_type=… to the query")


ParsedType_co = TypeVar("ParsedType_co", covariant=True)

_NOT_PARSED: Any = object()


class TypedQueryResult(QueryResult, Generic[ParsedType_co]):
    """What `query` returns if it has an `output_type`: a `QueryResult` that also has the answer as an instance of it.

    `parsed` is made from `data`, and is not in the JSON of a result. Results are equal if their data and metadata are.

    Args:
        data: The agent's answer, a `StructuredOutputResult`. If the type is not one of objects, the value is under the
            key `"value"`.
        metadata: What the runtime reports about the run, such as token usage; `None` if nothing.
        parsed: The instance. Default: none, as in a result that was read from JSON.
    """

    def __init__(
        self,
        data: Union[TextResult, StructuredOutputResult],
        metadata: Optional[Dict[str, Any]] = None,
        parsed: ParsedType_co = _NOT_PARSED,
    ) -> None:
        super().__init__(data, metadata)
        if parsed is not _NOT_PARSED:
            self._parsed = parsed

    @property
    def parsed(self) -> ParsedType_co:
        """The agent's answer as an instance of the query's `output_type`.

        Raises:
            WrongKindOfResult: The result was read from JSON, which does not have it. This is a `TypeError` and an
                `AttributeError`.
        """
        if "_parsed" not in vars(self):
            raise WrongKindOfResult("this result was made without a parsed value, such as from JSON")
        return self._parsed

    def __repr__(self) -> str:
        parsed = f", parsed={self._parsed!r}" if "_parsed" in vars(self) else ""
        return f"{type(self).__qualname__}(data={self.data!r}, metadata={self.metadata!r}{parsed})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QueryResult):
            return NotImplemented
        return (self.data, self.metadata) == (other.data, other.metadata)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __getstate__(self) -> Dict[str, Any]:
        # Not the mixin's, which would turn a parsed mapping into a dict.
        return dict(vars(self))


@dataclass
class CommandResultItem(JsonMixin):
    """The result of one command.

    `keep_output` is an argument of `RuntimeUseClient`: how many bytes of each stream the client keeps (default 1 MiB).

    Args:
        command: The command as it was sent, with secrets masked by the runtime.
        exit_code: The exit code; -1 if a signal ended the command. `None` occurs only in the `results` of exceptions,
            for a command that had not ended as far as the client knows.
        stdout: Everything that the command printed to stdout; `None` if nothing. For a command that failed the runtime
            may leave it out; it is then the last `keep_output` bytes of the streamed output.
        stderr: The last `keep_output` bytes of what the command printed to stderr, as streamed; `None` if nothing. If
            equal commands ran one after the other, the last one has the stderr of all: the stream does not tell them
            apart.
    """

    command: str
    exit_code: Optional[int]
    stdout: Optional[str] = None
    stderr: Optional[str] = None

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        from ._display import results as display

        name, ran = type(self).__name__, self._ran()
        short = cycle or display.is_inside(printer)
        printer.text(display.command_in_short(name, ran) if short else display.commands_as_text(name, [ran]))

    def _repr_html_(self) -> str:
        from ._display import results as display

        return display.commands_as_html(type(self).__name__, [self._ran()])

    def _ran(self, where: str = "") -> "Ran":
        from ._display.results import Ran

        return Ran(self.command, self.exit_code, self.stdout, self.stderr, where)


@dataclass
class CommandExecutionResult(JsonMixin):
    """What `execute_commands` returns.

    Args:
        results: The commands that ran, in order.
    """

    results: List[CommandResultItem]

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        from ._display import results as display

        name, all_ran = type(self).__name__, self._all_ran()
        short = cycle or display.is_inside(printer)
        title = display.commands_title(name, len(all_ran))
        printer.text(display.commands_in_short(name, all_ran) if short else display.commands_as_text(title, all_ran))

    def _repr_html_(self) -> str:
        from ._display import results as display

        all_ran = self._all_ran()
        return display.commands_as_html(display.commands_title(type(self).__name__, len(all_ran)), all_ran)

    def _all_ran(self) -> "List[Ran]":
        return [item._ran(f".results[{index}]") for index, item in enumerate(self.results)]


@dataclass(repr=False)
class ArtifactUploadResult(SafeRepr, JsonMixin):
    """What `on_artifact_upload_request` returns: where the runtime uploads the file.

    Args:
        presigned_url: The URL that the runtime sends the file to, with PUT. `repr` masks its user, password and query
            string.
        content_type: The media type of the file, such as `"text/plain"`, which the runtime sends as `Content-Type`.
    """

    presigned_url: str = field(metadata={"secret": "url"})
    content_type: str
