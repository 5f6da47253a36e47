"""The calls that clients and sessions have in common. No threads run here."""

import abc
from typing import Any, Optional, Sequence, Union

from ._wire.request import Defaults, Request, commands_request, query_request
from .keywords import CommandsKeywords, QueryKeywords, Unpack
from .messages import CommandInterface
from .options import ExecuteCommandsOptions, QueryOptions
from .results import CommandExecutionResult, QueryResult
from .run import Run, complete


class Calls(abc.ABC):
    """Queries and commands, each made of one run."""

    _defaults: Defaults

    def query(
        self, prompt: str, options: Optional[QueryOptions] = None, **keywords: "Unpack[QueryKeywords]"
    ) -> QueryResult:
        """Sends a prompt to the agent and returns the result.

        On a client over a connection of its own; on a session over that, when the calls before it are over.

        Args:
            prompt: The user prompt.
            options: The options; default: none set.
            **keywords: Single options by name, over those of `options`.

        Raises:
            AgentRuntimeError: the runtime answered with an error; or `idle_timeout` or a callback's timeout passed.
            CancelledException: `abort` was called.
            RunTimeoutError: the deadline passed (also a `TimeoutError`).
            RuntimeConnectionError: the runtime could not be reached; `ConnectionLostError`: it was lost meanwhile.
            ProtocolError: the runtime sent something that cannot be its protocol.
            ArtifactUploadError: a one-shot's runtime ended before all callbacks for late artifacts had answered.
            SessionStateError: the session is not open, or was opened in another process, or this is its own callback.
            TypeError, ValueError: an argument cannot be; nothing has been sent.
            Exception: whatever a callback raised.
        """
        return complete(self.stream(prompt, options, **keywords))

    def execute_commands(
        self,
        commands: Sequence[Union[str, CommandInterface]],
        options: Optional[ExecuteCommandsOptions] = None,
        **keywords: "Unpack[CommandsKeywords]",
    ) -> CommandExecutionResult:
        """Runs shell commands in the sandbox, in order, without the agent; stops after the first that fails.

        Args:
            commands: The commands, as strings or `CommandInterface`.
            options: The options; default: none set.
            **keywords: Single options by name, over those of `options`.

        Raises:
            CommandFailedError: a command exited non-zero (unless `check=False`); an `AgentRuntimeError`.
            Everything else as `query`.
        """
        return complete(self.stream_commands(commands, options, **keywords))

    def stream(
        self, prompt: str, options: Optional[QueryOptions] = None, **keywords: "Unpack[QueryKeywords]"
    ) -> "Run[QueryResult]":
        """Returns the run of a query, to be used as a context manager: iterate over its messages, read its result.

        Raises:
            TypeError, ValueError: an argument cannot be. Entering, iterating and `result` raise as `query`.
        """
        return self._run(query_request(prompt, options, dict(keywords), self._defaults, "query()"))

    def stream_commands(
        self,
        commands: Sequence[Union[str, CommandInterface]],
        options: Optional[ExecuteCommandsOptions] = None,
        **keywords: "Unpack[CommandsKeywords]",
    ) -> "Run[CommandExecutionResult]":
        """Returns the run of commands, to be used as a context manager: iterate over its output, read its result.

        Raises:
            TypeError, ValueError: an argument cannot be. Entering, iterating and `result` raise as `execute_commands`.
        """
        return self._run(commands_request(commands, options, dict(keywords), "execute_commands()"))

    @abc.abstractmethod
    def _run(self, request: Request) -> "Run[Any]":
        """Returns the run of a request, not yet started."""
