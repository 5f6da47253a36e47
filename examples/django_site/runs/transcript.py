"""How the events of a run are shown: output in blocks, one for each command and stream in a row.

`static/runs/site.js` goes on with the blocks that a page begins with, by the same rules.
"""

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List

from .models import Event


@dataclass
class Block:
    """One block: `of` is what it is output of, so that more of it is added, and empty if nothing is."""

    kind: str
    text: str
    stream: str = ""
    label: str = ""
    of: str = ""


def shown(event: Event) -> Dict[str, Any]:
    """Returns an event as it is sent to browsers: output with what heads its block."""
    data: Dict[str, Any] = event.data
    if event.kind != Event.Kind.OUTPUT:
        return data
    stream, command = data["stream"], data["command"]
    label = f"$ {command}" if stream == "stdout" else f"$ {command} · {stream}"
    return {"stream": stream, "text": data["text"], "label": label, "of": f"{stream} {command}"}


def blocks(events: Iterable[Event]) -> List[Block]:
    found: List[Block] = []
    for event in events:
        if event.kind not in (Event.Kind.ASSISTANT, Event.Kind.OUTPUT, Event.Kind.NOTE):
            continue
        data = shown(event)
        block = Block(event.kind, data["text"], data.get("stream", ""), data.get("label", ""), data.get("of", ""))
        if block.of and found and found[-1].of == block.of:
            found[-1].text += block.text
        else:
            found.append(block)
    return found


def result(events: Iterable[Event]) -> str:
    """Returns the agent's result, which is empty as long as there is none."""
    texts: List[str] = [event.data["text"] for event in events if event.kind == Event.Kind.RESULT]
    return texts[-1] if texts else ""
