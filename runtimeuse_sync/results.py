"""What calls return: dataclasses, as JSON by dataclasses-json. No threads run here."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Literal, Optional, Union

from ._wire.dataclass_json import JsonMixin, json_field
from ._wire.safe_repr import SafeRepr


@dataclass
class TextResult(JsonMixin):
    """The data of a query's result where no schema was given."""

    text: str
    type: Literal["text"] = "text"


@dataclass
class StructuredOutputResult(JsonMixin):
    """The data of a query's result where a schema was given."""

    structured_output: Dict[str, Any]
    type: Literal["structured_output"] = "structured_output"


def data_from_json(value: Any) -> Union[TextResult, StructuredOutputResult]:
    """Returns the result data that `data_to_json` made JSON of, told apart by its `type`."""
    if isinstance(value, dict) and value.get("type") == "structured_output":
        return StructuredOutputResult(structured_output=value["structured_output"])
    return TextResult(text=value["text"])


def data_to_json(data: Union[TextResult, StructuredOutputResult]) -> Dict[str, Any]:
    """Returns result data as a dict of JSON values."""
    return asdict(data)


class WrongKindOfResult(TypeError, AttributeError):
    """The result is of the other kind; `hasattr`, and `getattr` with a default, take it for a missing attribute."""


@dataclass
class QueryResult(JsonMixin):
    """What `query` returns; its `str` is the text, or the JSON of a structured result.

    Attributes:
        data: `TextResult`, or `StructuredOutputResult` where the query gave a schema.
        metadata: What the runtime says of the run (token usage, where it knows it), or `None`.
    """

    data: Union[TextResult, StructuredOutputResult] = field(
        metadata=json_field(encoder=data_to_json, decoder=data_from_json)
    )
    metadata: Optional[Dict[str, Any]] = None

    def __str__(self) -> str:
        if isinstance(self.data, TextResult):
            return self.data.text
        return json.dumps(self.data.structured_output, ensure_ascii=False)

    @property
    def text(self) -> str:
        """The text of a text result.

        Raises:
            WrongKindOfResult: the result is structured; use `.structured_output`. A `TypeError` and `AttributeError`.
        """
        if isinstance(self.data, TextResult):
            return self.data.text
        raise WrongKindOfResult("this result is structured output, not text: use .structured_output")

    @property
    def structured_output(self) -> Dict[str, Any]:
        """The JSON object of a structured result.

        Raises:
            WrongKindOfResult: the result is text; use `.text`. A `TypeError` and `AttributeError`.
        """
        if isinstance(self.data, StructuredOutputResult):
            return self.data.structured_output
        raise WrongKindOfResult("this result is text, not structured output: use .text")


@dataclass
class CommandResultItem(JsonMixin):
    """One command that ran.

    Attributes:
        command: The command, as it was sent (secrets redacted by the runtime).
        exit_code: Its exit code; -1 where a signal ended it. A call returns no `None`: in the `results` of an exception
            it stands for a command that had not ended, as far as is known.
        stdout: All that it printed to stdout; `None` where it printed nothing. The runtime may leave it out where the
            exit code is not 0: then it is what was streamed, the last `keep_output` bytes of it.
        stderr: What it printed to stderr, as it was streamed, the last `keep_output` bytes of it (an argument of
            `RuntimeUseClient`); `None` where nothing was. Of equal commands in a row it stands with the last: the
            stream does not tell them apart.
    """

    command: str
    exit_code: Optional[int]
    stdout: Optional[str] = None
    stderr: Optional[str] = None


@dataclass
class CommandExecutionResult(JsonMixin):
    """What `execute_commands` returns: the commands that ran, in order."""

    results: List[CommandResultItem]


@dataclass(repr=False)
class ArtifactUploadResult(SafeRepr, JsonMixin):
    """What an upload callback returns: where the runtime shall PUT the file, and as what."""

    presigned_url: str = field(metadata={"secret": "url"})
    content_type: str
