"""The commands' results as far as they can be known: which command printed what, and which commands have ended.

A chunk of output names its command only by the command's text, in which the runtime has masked secrets. No message says
that a command has ended. But commands run in order, and none runs after one that fails. So
    - an output belongs to the first command with that text that is not before the owner of the previous output;
    - all commands before one that prints have succeeded.
Commands with the same text and no other command's output in between look like one. The runtime's results then say what
each successful one printed to stdout; the rest is attributed to the last of them.

Threads: none; pure functions.
"""

import re
from typing import AbstractSet, Dict, List, NamedTuple, Optional, Sequence, Tuple

from .._wire.json_size import size_of
from .._wire.redaction import redacted_forms, scrub
from ..results import CommandResultItem
from .output import Output, Printed

#: The text of a runtime's error for a failed command of a query.
_FAILED = re.compile(r"(pre|post)-agent command failed with exit code: (-?\d{1,10})")


class _Owned(NamedTuple):
    """An output, and the indexes of the commands that may have printed it: none if its command was not requested."""

    printed: Printed
    owners: List[int]


def _owned(output: Output, texts: Sequence[AbstractSet[str]], before_agent: int = 0) -> List[_Owned]:
    """Returns which output belongs to which commands. `texts` has, for each command, the texts that may name it."""
    starts: List[Optional[int]] = []
    at = 0
    for printed in output.printed:
        least = max(at, before_agent) if printed.after_agent else at
        start = next((index for index in range(least, len(texts)) if printed.command in texts[index]), None)
        starts.append(start)
        at = at if start is None else start + 1
    owned: List[_Owned] = []
    end = len(texts)
    for printed, start in zip(reversed(output.printed), reversed(starts)):
        owners = [] if start is None else [each for each in range(start, end) if printed.command in texts[each]]
        owned.append(_Owned(printed, owners))
        end = end if start is None else start
    return owned[::-1]


def with_output(
    results: Sequence[CommandResultItem], output: Output, failed: Optional[int] = None, secrets: Sequence[str] = ()
) -> List[CommandResultItem]:
    """Returns the runtime's results, completed by the streamed output.

    Args:
        results: The results that the runtime sent.
        output: The streamed output.
        failed: The index of the failed command, if any. The error's text shows its result.
        secrets: The secrets to mask in the failed command's result.
    """
    completed = [CommandResultItem(item.command, item.exit_code, item.stdout) for item in results]
    for printed, owners in _owned(output, [{item.command} for item in results]):
        if not owners:
            continue
        item = completed[owners[-1]]
        masked = secrets if owners[-1] == failed else ()
        if item.stdout is None and item.exit_code != 0:
            known = sum(len(results[index].stdout or "") for index in owners[:-1])
            item.stdout = output.shown(printed.stdout.text(known), masked)
        item.stderr = output.shown(printed.stderr.text(), masked)
    if failed is not None:
        item = completed[failed]
        item.command = scrub(item.command, secrets)
        item.stdout = None if item.stdout is None else scrub(item.stdout, secrets)
    return completed


def stdout_seen(results: Sequence[CommandResultItem], index: int, output: Output) -> int:
    """Returns how many bytes of stdout were streamed for the command of `results[index]`."""
    for printed, owners in _owned(output, [{item.command} for item in results]):
        if owners and owners[-1] == index:
            return printed.stdout.seen - sum(size_of(results[each].stdout or "") for each in owners[:-1])
    return 0


def so_far(output: Output, secrets: Sequence[str], *, sent: bool) -> List[CommandResultItem]:
    """Returns the commands that have succeeded, then the one that may be running, with `None` for its exit code.

    Args:
        output: The streamed output.
        secrets: The secrets to mask.
        sent: Whether the request has been sent.
    """
    if output.results is not None:
        return with_output(output.results, output)
    if not output.keep or not sent:
        return []
    asked = output.asked
    owned = _owned_by_asked(output)
    before_agent = asked.before_agent
    starts = [owners[0] for _, owners in owned if owners]
    if output.ended:
        return _items(output, owned, len(asked.commands), secrets)
    if before_agent is not None and output.agent_spoke and not any(start >= before_agent for start in starts):
        return _items(output, owned, before_agent, secrets)
    running = starts[-1] if starts else 0
    first_runs = running < (len(asked.commands) if before_agent is None else before_agent) and not output.answered
    if not starts and not first_runs:
        return _items(output, owned, 0, secrets)
    return _items(output, owned, running, secrets, (None,))


def failed_command(
    error: str, output: Output, secrets: Sequence[str]
) -> Optional[Tuple[List[CommandResultItem], str, int]]:
    """Interprets a runtime's error for a failed command of a query.

    The error does not say which command failed. It is the only possible one or the last that printed something;
    otherwise it is unknown.

    Args:
        error: The text of the error.
        output: The streamed output.
        secrets: The secrets to mask.

    Returns:
        The results of the commands that ran, the failed one last if it is known; its text, or ""; its exit code.
        `None` for any other error.
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
    found = [next(each for each in owners if each in candidates) for _, owners in owned if _overlap(owners, candidates)]
    if not found and len(candidates) > 1:
        return _items(output, owned, candidates[0], secrets), "", exit_code
    index = found[-1] if found else candidates[0]
    items = _items(output, owned, index, secrets, (exit_code,))
    return items, scrub(asked.commands[index], secrets), exit_code


def _overlap(owners: Sequence[int], candidates: range) -> bool:
    return any(each in candidates for each in owners)


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
    """Returns the results of the first `ended` commands, which have succeeded, then one for the exit code in `then`.

    The output of a command that was not requested is inserted where it came, with `None` for its exit code.
    """
    exit_codes = [*([0] * ended), *then]
    items = [
        CommandResultItem(scrub(output.asked.commands[index], secrets), code) for index, code in enumerate(exit_codes)
    ]
    others: Dict[int, List[CommandResultItem]] = {}
    before = 0
    for printed, owners in owned:
        shown = [index for index in owners if index < len(items)]
        if shown:
            item = items[shown[-1]]
            before = shown[-1] + 1
        elif owners:
            continue
        else:
            # Its command was not requested, so nothing is known about its end.
            item = CommandResultItem(scrub(printed.command, secrets), None)
            others.setdefault(before, []).append(item)
        item.stdout = output.shown(printed.stdout.text(), secrets)
        item.stderr = output.shown(printed.stderr.text(), secrets)
    ordered = list(others.get(0, []))
    for index, item in enumerate(items):
        ordered += [item, *others.get(index + 1, [])]
    return ordered
