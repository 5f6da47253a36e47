"""A job: what one run is asked, as data that crosses to other processes as JSON; and what identifies it in a journal.

Threads: plain data; nothing is shared.
"""

import dataclasses
import hashlib
import json
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Set, Union

from .._wire import validation as check
from .._wire.error_format import beginning_of
from .._wire.redaction import scrub
from .._wire.request import Commands, checked_commands
from ..messages import CommandInterface
from ..options import ExecuteCommandsOptions, Options, QueryOptions

#: Options that change nothing about the result, or whose names end in this: they do not identify a job.
_NO_IDENTITY = ("source_id", "secrets_to_redact", "timeout", "_interval")

#: Options and fields that may contain secrets. They may change from one process to the next if the job has an id.
_MAY_BE_SECRET = ("agent_env", "env", "download_url")


class Job:
    """One run: a prompt for the agent, or shell commands.

    Jobs can be compared, copied and pickled. Their JSON contains the secrets of the options (journals do not); `repr`
    masks them. The arguments are attributes, too; `commands` is then a list of copies as `CommandInterface`, or `None`.

    Args:
        prompt: The prompt of a query. Either this or `commands`.
        commands: The commands of an `execute_commands`, as strings or `CommandInterface`, or a single one.
        options: `QueryOptions` for a prompt, `ExecuteCommandsOptions` for commands. Default: none set. JSON has no
            callbacks and no logger: a job that has some runs in threads only.
        id: A name of your own, which must differ from those of the other jobs. It identifies the job in a journal, in
            place of its content. Default: none.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has an invalid value, or not exactly one of `prompt` and `commands` is given.
    """

    def __init__(
        self,
        prompt: Optional[str] = None,
        *,
        commands: Optional[Commands] = None,
        options: Optional[Options] = None,
        id: Optional[str] = None,  # noqa: A002  # what users call it
    ) -> None:
        if prompt is None and commands is None:
            raise ValueError("a job needs a prompt or commands")
        if prompt is not None and commands is not None:
            raise ValueError("a job has a prompt or commands, not both")
        if prompt is not None:
            check.check_text("prompt", prompt)
        if options is not None:
            wanted = QueryOptions if commands is None else ExecuteCommandsOptions
            what = "a prompt" if commands is None else "commands"
            check.check_type("options", options, wanted, f"{wanted.__name__} for a job with {what}")
        if id is not None:
            check.check_text("id", id)
        self.prompt = prompt
        self.commands: Optional[List[CommandInterface]] = None if commands is None else checked_commands(commands)
        self.options = options
        self.id = id

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, Job) else NotImplemented

    #: None, as of everything that can be changed.
    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        secrets = self.secret_values()
        what = repr(self.prompt) if self.commands is None else repr([each.command for each in self.commands])
        shown = [] if self.id is None else [f"id={self.id!r}"]
        shown.append(f"{'prompt' if self.commands is None else 'commands'}={beginning_of(scrub(what, secrets))}")
        return f"Job({', '.join(shown)})"

    def secret_values(self) -> List[str]:
        """Returns the secrets in the options and the commands."""
        found = [] if self.options is None else self.options.secret_values()
        return found + [secret for command in self.commands or () for secret in command.secret_values()]

    def to_dict(self) -> Dict[str, Any]:
        """Returns the job as a dict of JSON values, secrets included, without callbacks and logger."""
        commands = None if self.commands is None else [each.to_dict(encode_json=True) for each in self.commands]
        options = None if self.options is None else self.options.to_dict(encode_json=True)
        return {"prompt": self.prompt, "commands": commands, "options": options, "id": self.id}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Job":
        """Returns the job that `to_dict` described.

        Args:
            fields: The fields by name. Unknown names are ignored.

        Raises:
            KeyError: A command lacks a field.
            TypeError: A field has the wrong type.
            ValueError: A field has an invalid value.
        """
        check.check_type("a job in JSON", fields, Mapping, "an object")
        commands, options = fields.get("commands"), fields.get("options")
        if commands is not None:
            check.check_type("commands", commands, (list, tuple), "a list of str or CommandInterface")
            commands = [CommandInterface.from_dict(each) if isinstance(each, Mapping) else each for each in commands]
        if isinstance(options, Mapping):
            options = (QueryOptions if commands is None else ExecuteCommandsOptions).from_dict(options)
        return cls(fields.get("prompt"), commands=commands, options=options, id=fields.get("id"))

    def to_json(self) -> str:
        """Returns the job as JSON text, secrets included, without callbacks and logger."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: Union[str, bytes, bytearray]) -> "Job":
        """Returns the job that `to_json` described.

        Args:
            text: The JSON text.

        Raises:
            KeyError: A command lacks a field.
            TypeError: A field has the wrong type.
            ValueError: The text is not JSON, or a field has an invalid value.
        """
        return cls.from_dict(json.loads(text))


def not_in_json(job: Job) -> List[str]:
    """Returns the names of the options that the job has and its JSON has not: callbacks and the logger."""
    if job.options is None:
        return []
    fields = dataclasses.fields(job.options)
    excluded = [each.name for each in fields if "exclude" in each.metadata.get("dataclasses_json", {})]
    return [name for name in excluded if getattr(job.options, name) is not None]


def _content(job: Job) -> Dict[str, Any]:
    """Returns what decides on the job's result: no options with their defaults, so that new ones change nothing."""
    fields = job.to_dict()
    options = {}
    if job.options is not None:
        defaults = type(job.options)().to_dict(encode_json=True)
        options = {name: value for name, value in fields["options"].items() if value != defaults.get(name)}
    kept = {name: value for name, value in options.items() if not name.endswith(_NO_IDENTITY)}
    return {"prompt": fields["prompt"], "commands": fields["commands"], "options": kept}


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_secrets(item) for name, item in value.items() if name not in _MAY_BE_SECRET}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_of(job: Job) -> str:
    """Returns a hash of the job's content without what may be secret."""
    return _hash(_without_secrets(_content(job)))


class Keys:
    """Gives each job the key that identifies it in a journal: its id, or a hash of its content.

    Jobs without an id that have equal content are counted: the second one's key ends in `#2`.

    Args:
        for_journal: Whether jobs without an id need keys.
    """

    def __init__(self, *, for_journal: bool) -> None:
        self._for_journal = for_journal
        self._ids: Set[str] = set()
        self._counts: Dict[str, int] = {}

    def key_of(self, job: Job) -> str:
        """Returns the next job's key; `""` if it needs none.

        Raises:
            ValueError: An earlier job has the same id.
        """
        if job.id is not None:
            if job.id in self._ids:
                raise ValueError(f"two jobs have the id {job.id!r}: ids must differ")
            self._ids.add(job.id)
            return f"id:{job.id}"
        if not self._for_journal:
            return ""
        key = f"sha256:{_hash(_content(job))}"
        count = self._counts[key] = self._counts.get(key, 0) + 1
        return key if count == 1 else f"{key}#{count}"
