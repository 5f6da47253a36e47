"""Which command has printed what, and which commands have ended: the results of a run, as far as they can be known.

A chunk of output names its command by nothing but its text, in which the runtime has masked secrets, and there is no
sign of a command's end. But commands run in order, and the first that fails is the last. So each output belongs to the
first command of its text that is not before the owner of the output before; what is before a command that prints has
ended well. Commands of equal text with no output of another between them are one to the stream: the runtime's results
tell what each of them printed to stdout, if it ended well; the rest stands with the last of them.

Pure functions; no threads run here.
"""

import re
from typing import AbstractSet, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .._wire.json_size import size_of
from .._wire.redaction import redacted_forms, scrub
from ..results import CommandResultItem
from .output import Output, Printed

#: As runtimes word it that a command of a query has failed.
_FAILED = re.compile(r"(pre|post)-agent command failed with exit code: (-?\d{1,10})")


class _Owned(NamedTuple):
    """What has been printed, and the places of the commands that may have printed it: none, if it was not asked for."""

    printed: Printed
    places: List[int]


def _owned(output: Output, texts: Sequence[AbstractSet[str]], before_agent: int = 0) -> List[_Owned]:
    """Returns what was printed by which of the commands, each of which is given as the texts that may name it."""
    starts: List[Optional[int]] = []
    at = 0
    for printed in output.printed:
        least = max(at, before_agent) if printed.after_agent else at
        start = next((place for place in range(least, len(texts)) if printed.command in texts[place]), None)
        starts.append(start)
        at = at if start is None else start + 1
    owned: List[_Owned] = []
    end = len(texts)
    for printed, start in zip(reversed(output.printed), reversed(starts)):
        places = [] if start is None else [each for each in range(start, end) if printed.command in texts[each]]
        owned.append(_Owned(printed, places))
        end = end if start is None else start
    return owned[::-1]


def with_output(
    results: Sequence[CommandResultItem], output: Output, failed: Optional[int] = None, secrets: Sequence[str] = ()
) -> List[CommandResultItem]:
    """Returns the results that the runtime has sent, completed by what was streamed.

    Args:
        results: The results.
        output: What was streamed.
        failed: The place of the command that has failed, if one has, which an exception's text shows.
        secrets: What is masked there.
    """
    completed = [CommandResultItem(item.command, item.exit_code, item.stdout) for item in results]
    for printed, places in _owned(output, [{item.command} for item in results]):
        if not places:
            continue
        item = completed[places[-1]]
        masked = secrets if places[-1] == failed else ()
        if item.stdout is None and item.exit_code != 0:
            known = sum(len(results[place].stdout or "") for place in places[:-1])
            item.stdout = output.shown(printed.stdout.text(known), masked)
        item.stderr = output.shown(printed.stderr.text(), masked)
    if failed is not None:
        item = completed[failed]
        item.command = scrub(item.command, secrets)
        item.stdout = None if item.stdout is None else scrub(item.stdout, secrets)
    return completed


def stdout_seen(results: Sequence[CommandResultItem], place: int, output: Output) -> int:
    """Returns how many bytes of stdout have been streamed of one of the commands that the runtime has sent."""
    for printed, places in _owned(output, [{item.command} for item in results]):
        if places and places[-1] == place:
            return printed.stdout.seen - sum(size_of(results[each].stdout or "") for each in places[:-1])
    return 0


def so_far(output: Output, secrets: Sequence[str], *, sent: bool) -> List[CommandResultItem]:
    """Returns the commands that have ended well, then the one that may be under way, whose exit code is `None`.

    Args:
        output: What has come.
        secrets: What is to be masked.
        sent: Whether the request has been sent.
    """
    if output.results is not None:
        return with_output(output.results, output)
    if not output.keep or not sent:
        return []
    asked = output.asked
    owned = _owned_by_asked(output)
    before_agent = asked.before_agent
    starts = [places[0] for _, places in owned if places]
    if output.ended:
        return _items(output, owned, len(asked.commands), secrets)
    if before_agent is not None and output.agent_spoke and not any(start >= before_agent for start in starts):
        return _items(output, owned, before_agent, secrets)
    under_way = starts[-1] if starts else 0
    first_runs = under_way < (len(asked.commands) if before_agent is None else before_agent) and not output.answered
    if not starts and not first_runs:
        return _items(output, owned, 0, secrets)
    return _items(output, owned, under_way, secrets, (None,))


def failed_command(
    error: str, output: Output, secrets: Sequence[str]
) -> Optional[Tuple[List[CommandResultItem], str, int]]:
    """Returns what a runtime means that says that a command of a query has failed.

    Returns:
        What ran, the failing command last; its text; its exit code. Or `None`, if it says something else. The runtime
        does not say which command it was: it is the last that printed something, or the only one; else there is none.
    """
    asked = output.asked
    said = _FAILED.fullmatch(error)
    if said is None or asked.before_agent is None:
        return None
    exit_code = int(said.group(2))
    total = len(asked.commands)
    candidates = range(asked.before_agent) if said.group(1) == "pre" else range(asked.before_agent, total)
    if exit_code == 0 or not candidates:
        return None
    owned = _owned_by_asked(output)
    found = [next(each for each in places if each in candidates) for _, places in owned if _overlap(places, candidates)]
    if not found and len(candidates) > 1:
        return _items(output, owned, candidates[0], secrets), "", exit_code
    place = found[-1] if found else candidates[0]
    items = _items(output, owned, place, secrets, (exit_code,))
    return items, scrub(asked.commands[place], secrets), exit_code


def _overlap(places: Sequence[int], candidates: range) -> bool:
    return any(each in candidates for each in places)


def _owned_by_asked(output: Output) -> List[_Owned]:
    asked = output.asked
    texts = [redacted_forms(command, asked.secrets) for command in asked.commands] if output.printed else []
    return _owned(output, texts, asked.before_agent or 0)


def _items(
    output: Output,
    owned: List[_Owned],
    ended: int,
    secrets: Sequence[str],
    then: Tuple[Optional[int], ...] = (),
) -> List[CommandResultItem]:
    """Returns the first commands, which have ended well, and the one after them with that exit code, if there is."""
    exit_codes = [*([0] * ended), *then]
    items = [
        CommandResultItem(scrub(output.asked.commands[place], secrets), code) for place, code in enumerate(exit_codes)
    ]
    others: Dict[int, List[CommandResultItem]] = {}
    before = 0
    for printed, places in owned:
        owners = [place for place in places if place < len(items)]
        if owners:
            item = items[owners[-1]]
            before = owners[-1] + 1
        elif places:
            continue
        else:
            # It was not asked for; so nothing is known of its end.
            item = CommandResultItem(scrub(printed.command, secrets), None)
            others.setdefault(before, []).append(item)
        item.stdout = output.shown(printed.stdout.text(), secrets)
        item.stderr = output.shown(printed.stderr.text(), secrets)
    ordered = list(others.get(0, []))
    for place, item in enumerate(items):
        ordered += [item, *others.get(place + 1, [])]
    return ordered
