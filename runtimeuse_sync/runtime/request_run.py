"""Runs one request and sends its terminal message.

Every request gets a terminal message, however it fails, and heartbeats until then.

Threads: three tasks on the event loop per request. One runs `_work`, which does the work; a cancel cancels this task.
One runs `serve`, which sends the terminal message and is never cancelled. One sends heartbeats.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Set

from .._wire.redaction import env_secrets
from .agents.base import Agent, Invocation, run_agent
from .agents.cancellation import Cancelled
from .agents.loop import AgentLoop
from .agents.outcome import AgentFailedError, OutcomeEncoder
from .artifacts.watcher import Artifacts
from .commands.execution import CommandResult, results_pieces, run_commands
from .commands.processes import ProcessRunner
from .downloads.download import download
from .failures import RequestFailedError, cancelled_message
from .masking import RedactingLogger, Redactor
from .outbox import ClientGoneError, Outbox, encode
from .parsing import Command, InvocationRequest, Request
from .settings import RuntimeSettings
from .workers import Workers

#: How long the work of an abandoned request may take to end, in seconds.
_GIVE_UP_GRACE = 0.2


@dataclass(frozen=True)
class RuntimeParts:
    """The objects that all connections of a runtime share."""

    settings: RuntimeSettings
    workers: Workers
    processes: ProcessRunner
    agent: Agent
    agent_loop: AgentLoop


class RequestRun:
    """One request in flight.

    Args:
        request: The request.
        parts: The runtime's shared objects.
        outbox: Sends the request's messages.
        artifacts: Watches the directories that the request names.
        log: The connection's logger.
    """

    def __init__(
        self, request: Request, parts: RuntimeParts, outbox: Outbox, artifacts: Artifacts, log: RedactingLogger
    ) -> None:
        self._request = request
        self._parts = parts
        self._outbox = outbox
        self._artifacts = artifacts
        self._log = log
        self._cancelled = Cancelled()
        self._given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._redactor = Redactor(request.secrets)
        # The last request's terminal message is masked already.
        outbox.redactor = self._redactor
        log.redactor = Redactor([*request.secrets, *env_secrets(*_environments(request))])
        self._task = asyncio.ensure_future(self._work())

    def cancel(self) -> None:
        """Cancels the request; its terminal message follows when everything that it started has ended."""
        if not self._cancelled.is_set():
            self._cancelled.set()
            # Only once: a second cancel would interrupt the clean-up after the first.
            self._task.cancel()

    def give_up(self) -> None:
        """Stops waiting for a cancelled request that does not end; called when the runtime stops."""
        # The second cancel interrupts the clean-up: process groups are killed, threads and tasks abandoned.
        self._task.cancel()
        asyncio.get_running_loop().call_later(_GIVE_UP_GRACE, self._stop_waiting)

    def _stop_waiting(self) -> None:
        if not self._given_up.done():
            self._given_up.set_result(None)

    async def serve(self, on_done: Callable[[], None]) -> None:
        """Waits for the request's end and sends its terminal message.

        Args:
            on_done: Called just before the terminal message is sent. From then on, a cancel has no effect, and the
                next request is accepted.
        """
        heartbeats = asyncio.ensure_future(self._send_heartbeats())
        try:
            ends: Set[asyncio.Future[Any]] = {self._task, self._given_up}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            terminal = self._terminal()
        finally:
            heartbeats.cancel()
            await asyncio.wait({heartbeats})
        on_done()
        try:
            await self._outbox.send_text(*terminal)
        except ClientGoneError:
            self._log.info("The client left before the end of its request")

    async def _send_heartbeats(self) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            await asyncio.sleep(self._parts.settings.heartbeat_interval)
            elapsed = int((loop.time() - started) * 1000)
            try:
                await self._outbox.send(
                    {"message_type": "heartbeat_message", "phase": "request_in_flight", "elapsed_ms": elapsed}
                )
            except ClientGoneError:
                return

    def _terminal(self) -> List[bytes]:
        """Returns the encoded terminal message, in pieces."""
        if self._cancelled.is_set():
            return [encode(cancelled_message())]
        if self._task.cancelled():
            return self._encoded_error(RequestFailedError("the agent cancelled itself"))
        error = self._task.exception()
        if error is None:
            return self._task.result()
        if isinstance(error, AgentFailedError):
            return [error.message]
        return self._encoded_error(error)

    def _encoded_error(self, error: BaseException) -> List[bytes]:
        return [OutcomeEncoder(self._cancelled, self._redactor, self._log).failure(error).message]

    async def _work(self) -> List[bytes]:
        """Does the request's work; returns the encoded terminal message, in pieces."""
        request = self._request
        parts = self._parts
        await self._artifacts.watch(request.artifacts_dirs, request.artifacts_ignore_content)
        for item in request.downloadables:
            await download(item.download_url, item.working_dir, parts.settings, parts.workers)
        if not isinstance(request, InvocationRequest):
            done = await self._run_commands(request.commands, parts.settings.max_stdout)
            return results_pieces(done)
        await self._around_agent("pre-agent", request.pre_commands)
        invocation = Invocation(
            user_prompt=request.user_prompt,
            system_prompt=request.system_prompt,
            model=request.model,
            output_format=request.output_format,
            env=request.agent_env,
            secrets=request.secrets,
            cancelled=self._cancelled,
            logger=self._log,
            root=parts.settings.root,
        )
        encoder = OutcomeEncoder(self._cancelled, self._redactor, self._log)
        result = await run_agent(parts.agent, invocation, self._outbox, parts.workers, parts.agent_loop, encoder)
        await self._around_agent("post-agent", request.post_commands)
        return [result]

    async def _around_agent(self, when: str, commands: List[Command]) -> None:
        # Their stdout is only streamed: no result will contain it.
        done = await self._run_commands(commands, 0)
        if done and done[-1].exit_code != 0:
            raise RequestFailedError(f"{when} command failed with exit code: {done[-1].exit_code}")

    async def _run_commands(self, commands: List[Command], max_stdout: Optional[int]) -> List[CommandResult]:
        return await run_commands(commands, self._parts.processes, self._outbox, self._redactor, max_stdout)


def _environments(request: Request) -> List[Dict[str, str]]:
    """Returns the environments that the client sent; their values must not be logged."""
    if isinstance(request, InvocationRequest):
        return [request.agent_env, *(command.env for command in request.pre_commands + request.post_commands)]
    return [command.env for command in request.commands]
