"""The script of a fake runtime: which requests it expects, and how those that came differ.

Values of a request are compared with what was expected of them: by `==`, by a compiled pattern that is searched for, or
by a function that returns whether the value is right.

Threads: none of its own; the fake runtime calls its methods under its lock.
"""

import dataclasses
import difflib
import re
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from .._wire.redaction import env_secrets, in_any_form, scrub
from ..messages import CommandExecutionMessage, InvocationMessage
from ._replies import Message, Reply, error

QUERY, COMMANDS = "invocation_message", "command_execution_message"

#: The longest text of a prompt or a value that is shown, in characters.
_LONGEST = 400

#: For how many pairs of lines it is shown where they differ.
_MOST_PAIRS = 20


class _Any:
    def __repr__(self) -> str:
        return "ANY"


#: Stands for any value.
ANY: Any = _Any()
"""Stands for any prompt, any commands, or any value of a field, in what a `FakeRuntime` expects."""


class Expected(NamedTuple):
    """What a request must be.

    Attributes:
        kind: Its message type; `None` for any request.
        content: Its prompt, or its commands; `ANY` for any.
        fields: What further fields must be, by name.
    """

    kind: Optional[str]
    content: Any
    fields: Dict[str, Any]

    def fits(self, request: Message) -> bool:
        """Returns whether a request is what was expected."""
        if self.kind is None:
            return True
        if request["message_type"] != self.kind:
            return False
        if not all(_fits(value, request.get(name)) for name, value in self.fields.items()):
            return False
        if self.kind == QUERY or self.content is ANY:
            return _fits(self.content, request.get("user_prompt"))
        commands = request["commands"]
        return len(commands) == len(self.content) and all(map(_fits_command, self.content, commands))

    def shown(self, secrets: List[str]) -> str:
        """Returns it as text, with the secrets masked."""
        if self.kind is None:
            return "any request"
        if self.content is ANY:
            text = "any query" if self.kind == QUERY else "any commands"
        else:
            text = f"{'query' if self.kind == QUERY else 'commands'} {_shown(self.content, secrets)}"
        return text + _shown_fields(self.fields, secrets)

    def secrets(self) -> List[str]:
        """Returns the secrets in it, as far as it has values and not patterns or functions."""
        commands = [each for each in _listed(self) if isinstance(each, dict)]
        return _secrets_in({**self.fields, "commands": commands})


def expected_query(prompt: Any, fields: Dict[str, Any]) -> Expected:
    """Returns the expectation of a query.

    Raises:
        TypeError: The prompt is no str, pattern or function, or a query has no such field.
    """
    _check_fields(fields, InvocationMessage, "user_prompt")
    # Anything else may be an object that is equal to what it likes, as `unittest.mock.ANY`.
    if prompt is None or isinstance(prompt, (bytes, dict, list, tuple, int, float)):
        raise TypeError(f"prompt must be a str, a pattern or a function, not {type(prompt).__name__}")
    return Expected(QUERY, prompt, fields)


def expected_commands(commands: Any, fields: Dict[str, Any]) -> Expected:
    """Returns the expectation of commands.

    Raises:
        TypeError: The commands are no commands, or a request to execute commands has no such field.
    """
    _check_fields(fields, CommandExecutionMessage, "commands")
    if commands is ANY:
        return Expected(COMMANDS, ANY, fields)
    listed = list(commands) if isinstance(commands, (list, tuple)) else [commands]
    for each in listed:
        if not isinstance(each, (str, dict, re.Pattern)) and not callable(each) and each is not ANY:
            raise TypeError(f"commands must be strs, patterns, dicts or functions, not {type(each).__name__}")
    return Expected(COMMANDS, listed, fields)


def _check_fields(given: Dict[str, Any], kind: Any, own: str) -> None:
    names = [each.name for each in dataclasses.fields(kind) if each.name not in ("message_type", own)]
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
            raise TypeError(f"{name}: a request has no such field; {hint}")


def _fits(expected: Any, value: Any) -> bool:
    if expected is ANY:
        return True
    if isinstance(expected, re.Pattern):
        return isinstance(value, str) and expected.search(value) is not None
    if callable(expected):
        return bool(expected(value))
    return bool(expected == value)


def _fits_command(expected: Any, command: Message) -> bool:
    if isinstance(expected, dict):
        return all(_fits(value, command.get(name)) for name, value in expected.items())
    return _fits(expected, command["command"])


def commands_of(request: Message) -> List[str]:
    """Returns the commands of a request, as strs."""
    return [command["command"] for command in request.get("commands") or ()]


class Script:
    """What is expected, and what came."""

    def __init__(self) -> None:
        self._steps: Deque[Tuple[Expected, Reply]] = deque()
        self._for_all: Optional[Callable[[Message], Any]] = None
        self._expected: List[Expected] = []
        # Each request, and what it was taken for; `None` if it was not expected.
        self._seen: List[Tuple[Message, Optional[Expected]]] = []
        self._failures: List[Tuple[Message, BaseException]] = []

    def expect(self, expected: Expected, reply: Reply) -> None:
        """Adds an expected request and its reply.

        Raises:
            ValueError: There is a function for all requests already.
        """
        if self._for_all is not None:
            raise ValueError("all requests are answered by a function already: either expect requests or answer all")
        self._expected.append(expected)
        self._steps.append((expected, reply))

    def answer_all(self, reply: Callable[[Message], Any]) -> None:
        """Has all requests answered by a function.

        Raises:
            ValueError: Certain requests are expected already.
        """
        if self._expected:
            raise ValueError("requests are expected already: either expect requests or answer all")
        self._for_all = reply

    def reply_to(self, request: Message) -> Any:
        """Notes a request, and returns its reply: an error if it is not what is expected next."""
        if self._for_all is not None:
            return self._for_all
        if not self._steps:
            self._seen.append((request, None))
            return error(f"FakeRuntime has no reply left for request number {len(self._seen)}")
        expected, reply = self._steps[0]
        if expected.fits(request):
            self._steps.popleft()
            self._seen.append((request, expected))
            return reply
        self._seen.append((request, None))
        secrets = self._secrets()
        shown = f"FakeRuntime did not expect {self._shown(request, secrets)}; it expected {expected.shown(secrets)}"
        return error(scrub(shown, secrets))

    def failed(self, request: Message, failure: BaseException) -> None:
        """Notes that a function that makes replies has raised."""
        self._failures.append((request, failure))

    def problems(self) -> str:
        """Returns how what came differs from what was expected, and what failed; `""` if all is well."""
        parts = []
        secrets = self._secrets()
        unexpected = sum(expected is None for _, expected in self._seen)
        if unexpected or self._steps:
            counts = [f"{unexpected} not expected"] * bool(unexpected) + [f"{len(self._steps)} missing"] * bool(
                self._steps
            )
            wanted = [each.shown(secrets) for each in self._expected]
            came = [
                expected.shown(secrets) if expected else self._shown(request, secrets)
                for request, expected in self._seen
            ]
            parts += [
                f"the requests are not those that FakeRuntime expected ({', '.join(counts)}):",
                "  - expected",
                "  + received",
                "",
                *_difference(wanted, came),
            ]
        for request, failure in self._failures:
            shown = self._shown(request, secrets)
            parts.append(f"the reply to {shown} raised {type(failure).__name__}: {failure}")
        return scrub("\n".join(parts), secrets)

    def _shown(self, request: Message, secrets: List[str]) -> str:
        """Returns a request as text, with those fields that the script says something about."""
        names = {name: None for expected in self._expected for name in expected.fields}
        fields = {name: request[name] for name in names if name in request}
        if request.get("message_type") == QUERY:
            return f"query {_shown(request['user_prompt'], secrets)}{_shown_fields(fields, secrets)}"
        with_more = any(isinstance(each, dict) for expected in self._expected for each in _listed(expected))
        commands = request.get("commands", []) if with_more else commands_of(request)
        return f"commands {_shown(commands, secrets)}{_shown_fields(fields, secrets)}"

    def _secrets(self) -> List[str]:
        secrets = [secret for expected in self._expected for secret in expected.secrets()]
        for request in [*(request for request, _ in self._seen), *(request for request, _ in self._failures)]:
            secrets += _secrets_in(request)
        return in_any_form(secrets)


def _listed(expected: Expected) -> List[Any]:
    return expected.content if isinstance(expected.content, list) else []


def _secrets_in(request: Message) -> List[str]:
    """Returns the secrets in a request, or in what is expected of one."""
    listed = request.get("secrets_to_redact")
    secrets = [each for each in listed if isinstance(each, str)] if isinstance(listed, (list, tuple)) else []
    environments = [request.get("agent_env"), *(each.get("env") for each in request.get("commands") or ())]
    for environment in environments:
        if isinstance(environment, Mapping):
            secrets += env_secrets({name: value for name, value in environment.items() if isinstance(value, str)})
    return secrets


def _difference(wanted: List[str], came: List[str]) -> Iterator[str]:
    """Yields the lines that differ and those that do not; for the first ones also where in the line they differ."""
    pairs = 0
    for kind, start, end, other, other_end in difflib.SequenceMatcher(None, wanted, came, autojunk=False).get_opcodes():
        if kind == "equal":
            yield from (f"  {line}" for line in wanted[start:end])
            continue
        both = min(end - start, other_end - other, _MOST_PAIRS - pairs)
        for index in range(both):
            pair = difflib.ndiff([wanted[start + index]], [came[other + index]])
            yield from (line.rstrip("\n") for line in pair)
        pairs += both
        yield from (f"- {line}" for line in wanted[start + both : end])
        yield from (f"+ {line}" for line in came[other + both : other_end])


def _shown(value: Any, secrets: List[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_shown(each, secrets) for each in value)}]"
    if isinstance(value, re.Pattern):
        return f"matching {_cut(scrub(repr(value.pattern), secrets))}"
    if callable(value):
        return f"that {getattr(value, '__name__', type(value).__name__)} accepts"
    return _cut(scrub(repr(value), secrets))


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"


def _shown_fields(fields: Dict[str, Any], secrets: List[str]) -> str:
    return f" ({', '.join(f'{name}={_shown(fields[name], secrets)}' for name in sorted(fields))})" if fields else ""
