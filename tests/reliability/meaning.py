"""What a message of the runtime's means to a query that waits, read off PROTOCOL.md's tables; and messages to try.

Written once more on purpose, without the package's codec: the one is held against the other.
"""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from hypothesis import strategies as st

IGNORED, STREAMED, UPLOAD, RESULT, ERROR, BROKEN = "ignored", "streamed", "upload", "result", "error", "broken"

TERMINALS = ("result_message", "command_execution_result_message", "error_message")


class Meaning(NamedTuple):
    """What becomes of a message, and what its receiver gets of it."""

    kind: str
    content: Any = None


def meaning(text: str) -> Meaning:
    """Returns what a text frame means to a query that waits."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        # A terminal whose content is too much for a parser still is the end.
        return Meaning(BROKEN if any(f'"message_type": "{name}"' in text for name in TERMINALS) else IGNORED)
    kind = message.get("message_type") if isinstance(message, dict) else None
    read = _READERS.get(kind) if isinstance(kind, str) else None
    return Meaning(IGNORED) if read is None else read(message)


def in_json(value: Any) -> Any:
    """Returns what JSON makes of a value: two halves of a surrogate pair that meet become the one character."""
    return json.loads(json.dumps(value))


def printable(value: Any) -> Any:
    """Returns what is handed over of a JSON value: a half of a surrogate pair that stays alone is replaced."""
    # What has no halves may be nested as deeply as the parser goes, and this function does not go so far.
    return _printable(in_json(value)) if _has_halves(value) else value


def _has_halves(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str) and re.search("[\ud800-\udfff]", item):
            return True
        if isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, (list, tuple)):
            waiting += item
    return False


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {_printable(name): _printable(inner) for name, inner in value.items()}
    return [_printable(inner) for inner in value] if isinstance(value, list) else value


def streamed(meanings: List[Meaning]) -> List[Any]:
    """Returns what is handed over of streamed messages: halves of a pair in two chunks are joined."""
    handed_over: List[Any] = []
    cut_off: Dict[Tuple[str, str], str] = {}
    for kind, content in [each.content for each in meanings if each.kind == STREAMED]:
        if kind != "output":
            handed_over.append((kind, printable(content)))
            continue
        stream, text, command = content[0], content[1], printable(content[2])
        whole = in_json(cut_off.pop((stream, command), "") + text)
        if "\ud800" <= whole[-1:] <= "\udbff":
            cut_off[stream, command], whole = whole[-1], whole[:-1]
        if whole or not text:
            handed_over.append((kind, [stream, printable(whole), command]))
    for stream, command in reversed(list(cut_off)):
        handed_over.append(("output", [stream, "\ufffd", command]))
    return handed_over


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and value == value and abs(value) != float("inf")


def _assistant(message: Dict[str, Any]) -> Meaning:
    blocks = message.get("text_blocks")
    right = isinstance(blocks, list) and all(isinstance(block, str) for block in blocks)
    return Meaning(STREAMED, ("assistant", blocks)) if right else Meaning(IGNORED)


def _output(message: Dict[str, Any]) -> Meaning:
    content = [message.get(name) for name in ("stream", "text", "command")]
    right = all(isinstance(part, str) for part in content) and content[0] in ("stdout", "stderr")
    return Meaning(STREAMED, ("output", content)) if right else Meaning(IGNORED)


def _heartbeat(message: Dict[str, Any]) -> Meaning:
    phase, elapsed = message.get("phase"), message.get("elapsed_ms")
    if not isinstance(phase, str) or not _is_number(elapsed):
        return Meaning(IGNORED)
    return Meaning(STREAMED, ("heartbeat", [phase, int(elapsed or 0)]))


def _upload(message: Dict[str, Any]) -> Meaning:
    content = (message.get("filename"), message.get("filepath"))
    return Meaning(UPLOAD, content) if all(isinstance(part, str) for part in content) else Meaning(IGNORED)


def _result(message: Dict[str, Any]) -> Meaning:
    data, metadata = message.get("data"), message.get("metadata")
    if not isinstance(data, dict) or not isinstance(metadata, (dict, type(None))):
        return Meaning(BROKEN)
    for kind, name, wanted in (("text", "text", str), ("structured_output", "structured_output", dict)):
        if data.get("type") == kind and isinstance(data.get(name), wanted):
            return Meaning(RESULT, (data[name], metadata))
    return Meaning(BROKEN)


def _error(message: Dict[str, Any]) -> Meaning:
    said, metadata = message.get("error"), message.get("metadata")
    if not isinstance(said, str):
        return Meaning(BROKEN)
    return Meaning(ERROR, (said, metadata if isinstance(metadata, dict) else None))


_READERS: Dict[str, Callable[[Dict[str, Any]], Meaning]] = {
    "assistant_message": _assistant,
    "command_output_message": _output,
    "heartbeat_message": _heartbeat,
    "artifact_upload_request_message": _upload,
    "result_message": _result,
    "error_message": _error,
    # Of commands that the query never sent.
    "command_execution_result_message": lambda _: Meaning(BROKEN),
}

#: One of each, with every field.
MODELS: List[Dict[str, Any]] = [
    {"message_type": "assistant_message", "text_blocks": ["a", "b"]},
    {"message_type": "command_output_message", "stream": "stdout", "text": "t", "command": "c"},
    {"message_type": "heartbeat_message", "phase": "request_in_flight", "elapsed_ms": 15000},
    {"message_type": "artifact_upload_request_message", "filename": "f", "filepath": "/d/f"},
    {"message_type": "result_message", "data": {"type": "text", "text": "t"}, "metadata": {"m": 1}},
    {"message_type": "result_message", "data": {"type": "structured_output", "structured_output": {"s": 1}}},
    {"message_type": "error_message", "error": "e", "metadata": {"stack": "s"}},
    {"message_type": "command_execution_result_message", "results": [{"command": "c", "exit_code": 0, "stdout": "o"}]},
    {"message_type": "end_session_confirm_message"},
    {"message_type": "of_the_future_message", "anything": 1},
]

Path = Tuple[Any, ...]


def paths(value: Any, before: Path = ()) -> List[Path]:
    """Returns the way to every value within a value, and to itself."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [before, *(path for key, item in inner for path in paths(item, (*before, key)))]


def put(value: Any, path: Path, new: Any) -> Any:
    """Returns a copy with something else in one place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(copy[path[0]], path[1:], new)
    return copy


#: What any text may hold besides, and `st.text` leaves out or seldom has: halves of surrogate pairs, NUL, and the like.
ODD = ["", "", "\ud800", "\udfff", "\ud83d\ude00", "\udc00\ud800", "\0", "\u2028", "\ufeff", "\U0001f600"]
TEXTS: st.SearchStrategy[str] = st.tuples(st.text(max_size=6), st.sampled_from(ODD), st.text(max_size=3)).map("".join)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**40), 10**40) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def wire_texts(draw: st.DrawFn) -> str:
    """A message with something else in some places, fields that nobody knows, or given twice; or any text at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(TEXTS).encode("utf-8", "replace").decode()
    message = draw(st.sampled_from(MODELS))
    for _ in range(draw(st.integers(0, 2))):
        message = put(message, draw(st.sampled_from(paths(message))), draw(VALUES))
    if isinstance(message, dict):
        message = {**message, **draw(st.dictionaries(TEXTS, VALUES, max_size=2))}
    text = json.dumps(message)
    if draw(st.booleans()) and text.startswith("{") and len(text) > 2:
        # The same field once more, before: the last one counts.
        name: Optional[str] = draw(st.sampled_from(sorted(message)))
        text = "{" + json.dumps(name) + ": " + json.dumps(draw(VALUES)) + ", " + text[1:]
    return text
