"""Owns the built-in agent `openai`: the OpenAI Agents SDK with a tool that runs shell commands.

It uses OpenAI's responses API, which has a web search, and the chat completions API, which all servers of local models
support, anywhere else. It connects to the base URL only, as the SDK's tracing is off.

Threads: each run is a task on the runtime's event loop, with the SDK's tasks below it. Commands run with
`commands/processes.py`.
"""

import asyncio
import json
from typing import Any, Dict, List, Mapping, Optional, Set
from urllib.parse import urlsplit

from ..._wire.stream_redaction import StreamRedactor
from ..commands.processes import ProcessRunner
from ..failures import RequestFailedError
from ..masking import Redactor
from .base import Invocation, RunFunction, agent_environment, asked_schema, parse_structured
from .sender import AsyncSender

#: The most turns of the model in one run.
_MAX_TURNS = 100
#: How much of a command's output the model gets, in characters: this much of its beginning, and of its end.
_SHOWN = 10_000

#: The usage in the result's metadata, under the names of the JavaScript SDK, which the real runtime uses.
_USAGE = {
    "requests": "requests",
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "totalTokens": "total_tokens",
}

#: The environment variable that says whether there is a web search: 1 or 0. By default, there is one at OpenAI.
_WEB_SEARCH = "OPENAI_WEB_SEARCH"

_SHELL_PARAMETERS: Dict[str, Any] = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "description": "The command to run. It has no terminal and no input."},
        "cwd": {
            "type": ["string", "null"],
            "description": "The directory to run it in; null is the working directory.",
        },
    },
    "required": ["command", "cwd"],
    "additionalProperties": False,
}


def openai_agent(processes: ProcessRunner) -> RunFunction:
    """Returns the agent's run function.

    Raises:
        ImportError: the SDK is not installed.
    """
    try:
        import agents
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the agent 'openai' needs the package {error.name!r}, which is not installed: "
            'pip install "runtimeuse-sync[runtime,openai]" (Python 3.10 or later)',
            name=error.name,
        ) from error
    if not hasattr(agents, "Runner"):
        raise ImportError(f"the module 'agents' at {agents.__file__} is not the OpenAI Agents SDK")
    return OpenAIAgent(processes).run


class OpenAIAgent:
    """Asks a model, runs the commands that it requests, and returns its last message.

    Each message of the model is sent as an assistant message. The result is the last one: as text, or, with a schema,
    as the JSON object in it. The metadata has the `usage` of tokens. Where the endpoint offers one, the model has a web
    search. If the endpoint refuses it, because not all models may use it, the model is asked without.

    `OPENAI_API_KEY` and `OPENAI_BASE_URL` are taken from the client's `agent_env`, else from the runtime's environment.
    """

    def __init__(self, processes: ProcessRunner) -> None:
        self._processes = processes

    async def run(self, invocation: Invocation, sender: AsyncSender) -> Any:
        """Runs one invocation.

        Raises:
            RequestFailedError: there is no API key, the output format is not a JSON schema, or a variable has a value
                that it cannot have.
            Exception: whatever the SDK raises, such as `openai.APIStatusError`.
        """
        from openai import AsyncOpenAI, BadRequestError, NotFoundError, UnprocessableEntityError

        environment = agent_environment(invocation)
        base_url = environment.get("OPENAI_BASE_URL") or None
        # Servers of local models need no key, but the SDK does.
        key = environment.get("OPENAI_API_KEY") or ("none" if base_url else None)
        if key is None:
            raise RequestFailedError("the agent 'openai' needs OPENAI_API_KEY, or OPENAI_BASE_URL for a local model")
        searches = _offers_web_search(environment)
        async with AsyncOpenAI(api_key=key, base_url=base_url) as client:
            conversation = _Conversation(self._processes, invocation, sender, client)
            try:
                return await conversation.hold(searches)
            except (BadRequestError, NotFoundError, UnprocessableEntityError) as error:
                # Once the model has answered, it was not the web search that was refused.
                if not searches or conversation.has_begun:
                    raise
                invocation.logger.info("Asking again without web search, which was refused: HTTP %d", error.status_code)
                return await conversation.hold(False)


class _Conversation:
    """The messages between the model, its tools and the client in one run.

    Attributes:
        has_begun: The model has answered.
    """

    def __init__(self, processes: ProcessRunner, invocation: Invocation, sender: AsyncSender, client: Any) -> None:
        self._invocation = invocation
        self._sender = sender
        self._client = client
        self._shell = _ShellTool(processes, invocation)
        self.has_begun = False

    async def hold(self, searches: bool) -> Any:
        """Asks the model until it has answered; returns the result and its metadata."""
        from agents import (
            Agent,
            ModelSettings,
            OpenAIChatCompletionsModel,
            OpenAIResponsesModel,
            RunConfig,
            Runner,
            WebSearchTool,
        )

        invocation = self._invocation
        kind = OpenAIResponsesModel if searches else OpenAIChatCompletionsModel
        agent: Any = Agent(
            name="agent",
            instructions=invocation.system_prompt or None,
            model=kind(invocation.model, self._client),
            # Streaming servers report the usage only on request.
            model_settings=ModelSettings(include_usage=None if searches else True),
            tools=[self._shell.definition(), *([WebSearchTool()] if searches else [])],
            output_type=_output_type(asked_schema(invocation)),
        )
        running = Runner.run_streamed(
            agent,
            invocation.user_prompt,
            max_turns=_MAX_TURNS,
            run_config=RunConfig(tracing_disabled=True),
        )
        try:
            async for event in running.stream_events():
                if event.type != "agent_updated_stream_event":
                    self.has_begun = True
                blocks = _text_blocks(event)
                if blocks:
                    await self._sender.send_assistant_message(blocks)
        finally:
            running.cancel()
            await self._shell.end()
        usage = running.context_wrapper.usage
        counted = {name: getattr(usage, attribute) for name, attribute in _USAGE.items()}
        return running.final_output, {"model": invocation.model, "usage": counted}


def _offers_web_search(environment: Mapping[str, str]) -> bool:
    """Returns whether the endpoint has the responses API with its web search.

    Raises:
        RequestFailedError: the variable has a wrong value.
    """
    said = environment.get(_WEB_SEARCH) or ""
    if said not in ("", "0", "1"):
        raise RequestFailedError(f"{_WEB_SEARCH} must be 0 or 1, not {said!r}")
    if said:
        return said == "1"
    url = environment.get("OPENAI_BASE_URL")
    host = (urlsplit(url).hostname or "") if url else "api.openai.com"
    return f".{host}".endswith(".api.openai.com")


def _text_blocks(event: Any) -> List[str]:
    """Returns the texts of a message that the model has completed; nothing for any other event."""
    if event.type != "run_item_stream_event" or event.item.type != "message_output_item":
        return []
    parts = [getattr(part, "text", None) or getattr(part, "refusal", None) for part in event.item.raw_item.content]
    return [part for part in parts if part]


class _ShellTool:
    """Runs the model's commands, each in a process group of its own, and keeps track of them."""

    def __init__(self, processes: ProcessRunner, invocation: Invocation) -> None:
        self._processes = processes
        self._invocation = invocation
        self._redactor = Redactor(invocation.secrets)
        self._running: Set[asyncio.Task[str]] = set()

    def definition(self) -> Any:
        from agents import FunctionTool

        async def invoke(_: Any, arguments: str) -> str:
            try:
                parsed = json.loads(arguments)
                command, cwd = parsed["command"], parsed.get("cwd")
            except (ValueError, KeyError, TypeError, AttributeError):
                command = cwd = None
            if not isinstance(command, str) or not isinstance(cwd, (str, type(None))):
                return 'The arguments must be {"command": string, "cwd": string or null}.'
            # A separate task, as the SDK may not wait for its own tasks after a cancel.
            task = asyncio.ensure_future(self._run(command, cwd))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            return await task

        return FunctionTool(
            name="shell",
            description="Runs a shell command; returns its exit code and its output.",
            params_json_schema=_SHELL_PARAMETERS,
            on_invoke_tool=invoke,
        )

    async def end(self) -> None:
        """Ends the running commands; returns when they have ended."""
        running = set(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def _run(self, command: str, cwd: Optional[str]) -> str:
        # Masked, because the output is sent to the model's server.
        streams = {"stdout": _Shown(self._redactor), "stderr": _Shown(self._redactor)}

        async def on_output(stream: str, text: str) -> None:
            streams[stream].add(text)

        try:
            code = await self._processes.run(command, cwd, self._invocation.env, on_output)
        except (OSError, ValueError) as error:
            return self._redactor.text(f"The command could not be started: {error}")
        shown = [f"exit code: {code}"]
        for name, stream in streams.items():
            text = stream.end()
            if text:
                shown.append(f"{name}:\n{text}")
        return "\n".join(shown)


class _Shown:
    """The masked beginning and end of a command's output."""

    def __init__(self, redactor: Redactor) -> None:
        self._masking = StreamRedactor(redactor.secrets)
        self._head = ""
        self._tail = ""
        self._left_out = 0

    def add(self, text: str) -> None:
        self._keep(self._masking.feed(text))

    def end(self) -> str:
        self._keep(self._masking.flush())
        note = f"\n[… {self._left_out} characters left out …]\n" if self._left_out else ""
        return self._head + note + self._tail

    def _keep(self, text: str) -> None:
        room = _SHOWN - len(self._head)
        self._head += text[:room]
        rest = self._tail + text[room:]
        self._tail = rest[-_SHOWN:]
        self._left_out += len(rest) - len(self._tail)


def _output_type(schema: Optional[Dict[str, Any]]) -> Any:
    if schema is None:
        return None
    wanted: Dict[str, Any] = schema
    from agents import AgentOutputSchemaBase, ModelBehaviorError

    class Output(AgentOutputSchemaBase):
        def is_plain_text(self) -> bool:
            return False

        def name(self) -> str:
            return "result"

        def json_schema(self) -> Dict[str, Any]:
            return dict(wanted)

        def is_strict_json_schema(self) -> bool:
            # Strict mode supports only some schemas; `validate_json` checks the answer in any case.
            return False

        def validate_json(self, json_str: str) -> Any:
            try:
                return parse_structured(json_str, wanted, "the model's answer")
            except RequestFailedError as error:
                raise ModelBehaviorError(str(error)) from None

    return Output()
