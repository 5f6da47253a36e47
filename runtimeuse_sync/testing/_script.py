"""The script of a fake runtime: which requests it expects, and how those that came differ.

Values of a request are compared with what was expected of them: by `==`, by a compiled pattern that is searched for, or
by a function that returns whether the value is right.

Threads: none of its own; the fake runtime calls its methods under its lock.
"""

import dataclasses
import difflib
import re
from collections import deque
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Tuple

from .._wire.redaction import env_secrets, in_any_form, scrub
from ..messages import CommandExecutionMessage, InvocationMessage
from ._replies import Message, Reply, error

QUERY, COMMANDS = "invocation_message", "command_execution_message"

#: The longest text of a prompt or a value that is shown, in characters.
_LONGEST = 400


class _Any:
    def __repr__(self) -> str:
        return "ANY"


#: Stands for any value.
ANY: Any = _Any()


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

    def __str__(self) -> str:
        if self.kind is None:
            return "any request"
        if self.content is ANY:
            shown = "any query" if self.kind == QUERY else "any commands"
        else:
            shown = f"{'query' if self.kind == QUERY else 'commands'} {_shown(self.content)}"
        return shown + _shown_fields(self.fields)


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
        shown = f"FakeRuntime did not expect {self._shown(request)}; it expected {expected}"
        return error(scrub(shown, self._secrets()))

    def failed(self, request: Message, failure: BaseException) -> None:
        """Notes that a function that makes replies has raised."""
        self._failures.append((request, failure))

    def problems(self) -> str:
        """Returns how what came differs from what was expected, and what failed; `""` if all is well."""
        parts = []
        unexpected = sum(expected is None for _, expected in self._seen)
        if unexpected or self._steps:
            counts = [f"{unexpected} not expected"] * bool(unexpected) + [f"{len(self._steps)} missing"] * bool(
                self._steps
            )
            wanted = [str(each) for each in self._expected]
            came = [str(expected) if expected else self._shown(request) for request, expected in self._seen]
            parts += [
                f"the requests are not those that FakeRuntime expected ({', '.join(counts)}):",
                "  - expected",
                "  + received",
                "",
                *(line.rstrip("\n") for line in difflib.ndiff(wanted, came)),
            ]
        for request, failure in self._failures:
            parts.append(f"the reply to {self._shown(request)} raised {type(failure).__name__}: {failure}")
        return scrub("\n".join(parts), self._secrets())

    def _shown(self, request: Message) -> str:
        """Returns a request as text, with those fields that the script says something about."""
        names = {name: None for expected in self._expected for name in expected.fields}
        fields = {name: request[name] for name in names if name in request}
        if request.get("message_type") == QUERY:
            return f"query {_shown(request['user_prompt'])}{_shown_fields(fields)}"
        with_more = any(isinstance(each, dict) for expected in self._expected for each in _listed(expected))
        commands = request.get("commands", []) if with_more else commands_of(request)
        return f"commands {_shown(commands)}{_shown_fields(fields)}"

    def _secrets(self) -> List[str]:
        secrets: List[str] = []
        for request in [*(request for request, _ in self._seen), *(request for request, _ in self._failures)]:
            secrets += request.get("secrets_to_redact") or ()
            environments = [request.get("agent_env"), *(each.get("env") for each in request.get("commands") or ())]
            secrets += env_secrets(*environments)
        return in_any_form(secrets)


def _listed(expected: Expected) -> List[Any]:
    return expected.content if isinstance(expected.content, list) else []


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, re.Pattern):
        return f"matching {_cut(repr(value.pattern))}"
    if callable(value):
        return f"that {getattr(value, '__name__', type(value).__name__)} accepts"
    return _cut(repr(value))


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]}…{text[-_LONGEST // 2 :]}"


def _shown_fields(fields: Dict[str, Any]) -> str:
    return f" ({', '.join(f'{name}={_shown(fields[name])}' for name in sorted(fields))})" if fields else ""
