"""Reads server-sent events as a browser does, but takes nothing that the package has no reason to send."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, NamedTuple

COMMENT = b":\n\n"

#: The first chunk, if the reader comes for the first time.
GREETING = b":\nid: 0\n\n"


class Sent(NamedTuple):
    """An event as a reader gets it."""

    name: str
    id: int
    data: Any


def read(chunks: Iterable[bytes]) -> List[Sent]:
    """Returns the events in the chunks of a response."""
    found: List[Sent] = []
    for block in b"".join(chunks).decode().split("\n\n"):
        fields: Dict[str, str] = {}
        for line in block.split("\n"):
            assert "\r" not in line, "readers take it for a line break"
            name, _, value = line.partition(":")
            if name:
                assert name not in fields, block
                fields[name] = value[1:]
        # The first block may have no data: it is no event.
        if fields and (found or "data" in fields):
            assert set(fields) == {"event", "id", "data"}, block
            found.append(Sent(fields["event"], int(fields["id"]), json.loads(fields["data"], parse_constant=refuse)))
    return found


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON: browsers do not read it")
