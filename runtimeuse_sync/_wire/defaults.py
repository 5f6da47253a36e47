"""The options of one call: the client's defaults, overridden by the options object, overridden by the keywords.

A keyword always overrides. A field of the options object overrides if it differs from what the field is by default,
since nothing else tells whether it was set. Environments are merged, and secrets are added: a call cannot reveal what
its client masks.

Threads: nothing is shared. A client checks and copies its defaults when created, and calls only read them. Each call
copies its own options before it checks them.
"""

import dataclasses
from typing import Any, Dict, Iterable, List, Mapping, Optional, Type, TypeVar

from ..messages import CommandInterface
from ..options import NEVER_NONE, ExecuteCommandsOptions, QueryOptions, checked_option
from . import validation as check

#: How many bytes of output the client keeps of each command and stream, and of the agent's messages, by default.
DEFAULT_KEEP_OUTPUT = 1024 * 1024

_OptionsType = TypeVar("_OptionsType", QueryOptions, ExecuteCommandsOptions)

#: The options that contain environments, which each call copies.
_COPIED = ("agent_env", "pre_agent_invocation_commands", "post_agent_invocation_commands")

#: The options for which `None` sets nothing, so that it does not override a default.
_NONE_IS_UNSET = frozenset({"model", "system_prompt"})

_CALLBACK, _DIRECTORIES = "on_artifact_upload_request", ("artifacts_dirs", "artifacts_dir")

_MISSING = object()


def _defaults_of(kind: Type[Any]) -> Dict[str, Any]:
    """Returns the fields of an options class with their default values."""
    return {
        field.name: [] if field.default is dataclasses.MISSING else field.default for field in dataclasses.fields(kind)
    }


#: The options of each kind of call, with the values that they have by default.
QUERY_OPTIONS: Mapping[str, Any] = _defaults_of(QueryOptions)
COMMANDS_OPTIONS: Mapping[str, Any] = _defaults_of(ExecuteCommandsOptions)
ALL_OPTIONS: Mapping[str, Any] = {**QUERY_OPTIONS, **COMMANDS_OPTIONS}

_FIELDS: Mapping[Type[Any], Mapping[str, Any]] = {QueryOptions: QUERY_OPTIONS, ExecuteCommandsOptions: COMMANDS_OPTIONS}


class Defaults:
    """A client's defaults, for what a call does not set. Checked and copied when created.

    Args:
        options: Options by name, of either kind of call.
        keep_output: How many bytes of output to keep of each command and stream, and of the agent's messages.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has an invalid value.
    """

    def __init__(self, options: Mapping[str, Any], keep_output: int = DEFAULT_KEEP_OUTPUT) -> None:
        check.check_size("keep_output", keep_output, allow_zero=True)
        self.keep_output = keep_output
        self._options: Dict[Type[Any], Dict[str, Any]] = {kind: {} for kind in _FIELDS}
        for name, value in options.items():
            if _is(ALL_OPTIONS[name], value):
                continue
            if value is not None or name in NEVER_NONE:
                value = checked_option(name, _copied(value))
            for kind, fields in _FIELDS.items():
                if name in fields:
                    self._options[kind][name] = value

    def of_commands(self, name: str) -> Any:
        """Returns the default of one option of commands; `None` if the client has none."""
        return self._options[ExecuteCommandsOptions].get(name)

    def merged(
        self, kind: Type[_OptionsType], options: Optional[_OptionsType], keywords: Dict[str, Any], call: str
    ) -> _OptionsType:
        """Returns the options of one call.

        Args:
            kind: The class of the options.
            options: The options object; `None` if the call has none.
            keywords: The call's keywords; changed by this.
            call: The name of the called method, for error messages.

        Raises:
            TypeError: `options` is not a `kind`, a keyword is not an option, or an option has the wrong type.
            ValueError: An option has an invalid value.
        """
        fields = _FIELDS[kind]
        for keyword in keywords:
            if keyword not in fields:
                raise unknown_name(call, "option", keyword, fields)
        if options is not None:
            check.check_type("options", options, kind, f"a {kind.__name__}")
        defaults = self._options[kind]
        if defaults:
            self._add_defaults(defaults, fields, options, keywords)
        # Copy what the caller could change during the call, and check the copy.
        for name in _COPIED:
            if name in fields:
                keywords[name] = _copied(keywords[name] if name in keywords else getattr(options, name, None))
        return kind(**keywords) if options is None else dataclasses.replace(options, **keywords)

    def _add_defaults(
        self, defaults: Mapping[str, Any], fields: Mapping[str, Any], options: Any, keywords: Dict[str, Any]
    ) -> None:
        def own(name: str) -> Any:
            return keywords[name] if name in keywords else getattr(options, name, fields[name])

        for name, default in defaults.items():
            value = own(name)
            if _is(fields[name], value) and (name not in keywords or name in _NONE_IS_UNSET):
                keywords[name] = default
            elif isinstance(value, Mapping) and isinstance(default, Mapping):
                keywords[name] = {**default, **value}
            elif name == "secrets_to_redact" and isinstance(value, (list, tuple)):
                keywords[name] = [*default, *value]
        if keywords.get(_CALLBACK) is defaults.get(_CALLBACK, _MISSING) and not any(map(own, _DIRECTORIES)):
            # The client's callback serves calls with artifacts, and this one has none.
            del keywords[_CALLBACK]


def unknown_name(call: str, what: str, name: str, known: Iterable[str]) -> TypeError:
    """Returns the error for an argument that does not exist; it suggests a similar one, or lists all."""
    import difflib

    similar = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    hint = f"did you mean {similar[0]}?" if similar else f"valid {what}s are {', '.join(sorted(known))}"
    return TypeError(f"{call} got an unknown {what} {name!r}; {hint}")


def copied_command(command: CommandInterface) -> CommandInterface:
    """Returns a copy of a command with its own copy of the environment."""
    return dataclasses.replace(command, env=_copied(command.env))


def _copied(value: Any) -> Any:
    """Returns a copy of an environment or of a list, commands included; any other value unchanged."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (list, tuple)):
        copies: List[Any] = [copied_command(item) if isinstance(item, CommandInterface) else item for item in value]
        return copies
    return value


def _is(default: Any, value: Any) -> bool:
    """Returns whether a value is the given default."""
    return value is default or (type(value) is type(default) and isinstance(value, (list, float)) and value == default)
