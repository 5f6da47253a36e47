"""Owns the built-in agent `claude`: the Claude Agent SDK, which talks to the program `claude`.

What a run's messages, result and errors mean is decided here; `claude_process.py` owns the process.

Threads: each run is a task on the runtime's event loop, with the SDK's tasks and the process's below it.
"""

import json
import os
from datetime import datetime, timezone
from typing import Any, AsyncGenerator, Dict, List, Optional

from ..commands.processes import ProcessRunner
from ..failures import RequestFailedError
from ..masking import Redactor
from .base import Invocation, RunFunction, agent_environment, asked_schema, parse_structured
from .claude_process import ClaudeProcess, claude_arguments
from .sender import AsyncSender

#: What the result's metadata tells about the run, under the SDK's names.
_METADATA = ("duration_ms", "num_turns", "total_cost_usd", "usage", "session_id")

#: What to say about the errors that `claude` has a name for, which is that of an answer or of the result.
_ERRORS = {
    "authentication_failed": "claude is not logged in, or its key is refused: set ANTHROPIC_API_KEY in agent_env or in "
    "the runtime's environment",
    "billing_error": "claude's account cannot pay",
    "rate_limit": "claude has reached a rate limit",
    "error_max_turns": "claude has reached its limit of turns",
    "error_max_budget_usd": "claude has reached its limit of costs",
    "error_max_structured_output_retries": "claude's answers did not match the schema",
}


def claude_agent(processes: ProcessRunner) -> RunFunction:
    """Returns the agent's run function.

    Raises:
        ImportError: the SDK is not installed.
    """
    try:
        import claude_agent_sdk  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the agent 'claude' needs the package {error.name!r}, which is not installed: "
            'pip install "runtimeuse-sync[runtime,claude]" (Python 3.10 or later)',
            name=error.name,
        ) from error
    return ClaudeAgent(processes).run


class ClaudeAgent:
    """Runs `claude` in the runtime's root, with its tools for files and commands, and returns its result.

    The texts of each message of the model are sent as one assistant message, as soon as the message is complete. The
    result is that of `claude`: its text, or, with a schema, the JSON object that matches it.

    `claude` finds its key or its login as it always does, in the runtime's environment updated with the client's
    `agent_env`.
    """

    def __init__(self, processes: ProcessRunner) -> None:
        self._processes = processes

    async def run(self, invocation: Invocation, sender: AsyncSender) -> Any:
        """Runs one invocation.

        Raises:
            RequestFailedError: `claude` cannot be started, has failed, or has ended without a result; or the output
                format is not a JSON schema, or the result does not match it.
        """
        schema = asked_schema(invocation)
        with claude_arguments(invocation.model, invocation.system_prompt, schema) as arguments:
            redactor = Redactor(invocation.secrets)
            claude = ClaudeProcess(self._processes, arguments, _environment(invocation), redactor)
            result = await self._result(claude, invocation.user_prompt, sender)
        metadata = {name: getattr(result, name) for name in _METADATA if getattr(result, name) is not None}
        return _answer(result, schema), metadata

    @staticmethod
    async def _result(claude: ClaudeProcess, prompt: str, sender: AsyncSender) -> Any:
        progress = _Progress()
        messages = _messages(prompt, claude)
        try:
            async for message in messages:
                blocks = progress.see(message)
                if blocks:
                    await sender.send_assistant_message(blocks)
        finally:
            try:
                await messages.aclose()
            finally:
                # Also if the run is cancelled while the process starts.
                await claude.close()
        return progress.outcome(claude)


class _Progress:
    """What has to be remembered of the messages; never the messages themselves, as there may be any number."""

    def __init__(self) -> None:
        self._result: Any = None
        # The name of the error that the last answer was, and of the rate limit that refuses more.
        self._error: Optional[str] = None
        self._limit: Any = None

    def see(self, message: Any) -> List[str]:
        """Takes note of a message of the SDK; returns the texts of the model in it."""
        from claude_agent_sdk import AssistantMessage, RateLimitEvent, ResultMessage, TextBlock

        if isinstance(message, ResultMessage):
            # A later turn, after work in the background, has a result of its own.
            self._result = message
        elif isinstance(message, RateLimitEvent):
            self._limit = message.rate_limit_info if message.rate_limit_info.status == "rejected" else None
        elif isinstance(message, AssistantMessage):
            self._result = None
            self._error = message.error
            if self._error is None:
                return [block.text for block in message.content if isinstance(block, TextBlock) and block.text]
        return []

    def outcome(self, claude: ClaudeProcess) -> Any:
        """Returns the result.

        Raises:
            RequestFailedError: it is an error, or there is none.
        """
        if claude.failure is not None:
            raise claude.failure
        if self._result is None:
            raise RequestFailedError(_untimely_end(claude), claude.stderr or None)
        if self._result.is_error or self._result.subtype != "success":
            raise self._failure(claude)
        return self._result

    def _failure(self, claude: ClaudeProcess) -> RequestFailedError:
        result = self._result
        name = result.subtype if result.subtype in _ERRORS else self._error
        if self._limit is not None or result.api_error_status == 429:
            name = "rate_limit"
        said = "; ".join(error for error in result.errors or () if error) or (result.result or "").strip()
        text = _ERRORS.get(name or "", "claude failed")
        if name == "error_max_turns":
            text += f", {result.num_turns}"
        if self._limit is not None and self._limit.resets_at is not None:
            text += f", until {datetime.fromtimestamp(self._limit.resets_at, timezone.utc):%Y-%m-%d %H:%M} UTC"
        told = [f"{key}: {getattr(result, key)}" for key in _METADATA if key != "usage"]
        return RequestFailedError(f"{text}: {said or result.subtype}", "\n".join([*told, claude.stderr]).rstrip())


async def _messages(prompt: str, claude: ClaudeProcess) -> AsyncGenerator[Any, None]:
    """Yields the messages of the SDK, up to the end of the process or its failure.

    Raises:
        RequestFailedError: the SDK cannot go on though the process does.
    """
    from claude_agent_sdk import query

    stream: Any = query(prompt=prompt, transport=claude)
    try:
        while True:
            try:
                message = await stream.__anext__()
            except StopAsyncIteration:
                return
            except Exception as error:  # the SDK has no common class for them
                if claude.failure is not None or claude.exit_code is not None:
                    return  # what the process has done says more
                reason = f"{type(error).__name__}: {error}"
                raise RequestFailedError(f"the SDK cannot follow claude: {reason}", claude.stderr) from error
            yield message
    finally:
        await stream.aclose()


def _answer(result: Any, schema: Optional[Dict[str, Any]]) -> Any:
    if schema is None:
        return result.result or ""
    text = result.result or "" if result.structured_output is None else json.dumps(result.structured_output)
    return parse_structured(text, schema, "claude's answer")


def _untimely_end(claude: ClaudeProcess) -> str:
    how = {-1: "a signal ended it", None: "it was ended"}.get(claude.exit_code, f"exit code: {claude.exit_code}")
    last = claude.stderr.strip().rpartition("\n")[2]
    return f"claude ended without a result ({how})" + (f": {last}" if last else "")


def _environment(invocation: Invocation) -> Dict[str, str]:
    from claude_agent_sdk import __version__

    environment = agent_environment(invocation)
    # Otherwise it would think that it runs inside of another one.
    environment.pop("CLAUDECODE", None)
    environment.setdefault("CLAUDE_CODE_ENTRYPOINT", "sdk-py")
    environment["CLAUDE_AGENT_SDK_VERSION"] = __version__
    environment["PWD"] = os.path.abspath(invocation.root)
    if os.geteuid() == 0 and "IS_SANDBOX" not in invocation.env:
        # As root, it refuses to run without asking for permission, except in a sandbox. It knows only this value.
        environment["IS_SANDBOX"] = "1"
    return environment
