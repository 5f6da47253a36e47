"""The async client, which knows nothing of this runtime, gets from it all that its documentation promises."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, List

import pytest

from runtimeuse_sync.runtime import AsyncSender, Invocation, LocalRuntime

from ..support.servers import PATIENCE
from ..support.storage import Storage
from .conftest import StartRuntime

reference = pytest.importorskip("runtimeuse_client", reason="needs runtimeuse-client, Python 3.11 or later")

SCHEMA = json.dumps(
    {"type": "json_schema", "schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "number"}}}}
)


def ask(runtime: LocalRuntime, use: Callable[[Any], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        return await asyncio.wait_for(use(reference.RuntimeUseClient(ws_url=runtime.ws_url)), PATIENCE)

    return asyncio.run(go())


def options(**fields: Any) -> Any:
    return reference.QueryOptions(**{"system_prompt": "s", "model": "m", **fields})


def commands(*listed: str, **fields: Any) -> Dict[str, Any]:
    return {
        "commands": [reference.CommandInterface(command=command) for command in listed],
        "options": reference.ExecuteCommandsOptions(**fields),
    }


class Heard:
    """Callbacks that keep what they are called with."""

    def __init__(self) -> None:
        self.blocks: List[str] = []
        self.output: List[str] = []
        self.first = asyncio.Event()

    async def on_assistant_message(self, message: Any) -> None:
        self.blocks += message.text_blocks
        self.first.set()

    async def on_command_output(self, message: Any) -> None:
        self.output.append(message.stream + ": " + message.text)
        self.first.set()


def test_a_query(start: StartRuntime) -> None:
    result = ask(start("echo"), lambda client: client.query(prompt="2 + 2", options=options()))
    assert isinstance(result.data, reference.TextResult)
    assert (result.data.text, result.metadata) == ("2 + 2", {})


def test_a_structured_result(start: StartRuntime) -> None:
    wanted = options(output_format_json_schema_str=SCHEMA)
    result = ask(start(), lambda client: client.query(prompt="echo '{\"n\": 4}'", options=wanted))
    assert isinstance(result.data, reference.StructuredOutputResult)
    assert result.data.structured_output == {"n": 4}


def test_streaming(start: StartRuntime) -> None:
    async def use(client: Any) -> Any:
        heard = Heard()
        result = await client.query(
            prompt="echo one; echo two",
            options=options(
                on_assistant_message=heard.on_assistant_message,
                on_command_output=heard.on_command_output,
                pre_agent_invocation_commands=[reference.CommandInterface(command="echo before")],
                post_agent_invocation_commands=[reference.CommandInterface(command="echo after >&2")],
            ),
        )
        return heard, result

    heard, result = ask(start(), use)
    assert heard.blocks == ["one", "two"]
    assert heard.output == ["stdout: before\n", "stderr: after\n"]
    assert result.data.text == "one\ntwo\n"


def test_the_agents_environment_and_errors(start: StartRuntime) -> None:
    async def use(client: Any) -> None:
        result = await client.query(prompt="echo $A", options=options(agent_env={"A": "b"}))
        assert result.data.text == "b\n"
        with pytest.raises(reference.AgentRuntimeError, match="exit code: 3") as failed:
            await client.query(prompt="echo oops >&2; exit 3", options=options())
        assert failed.value.metadata["error_details"] == "oops\n"

    ask(start(), use)


def test_commands(start: StartRuntime) -> None:
    async def use(client: Any) -> None:
        done = await client.execute_commands(**commands("echo one", "true"))
        assert [(item.exit_code, item.stdout) for item in done.results] == [(0, "one\n"), (0, None)]
        done = await client.execute_commands(**commands("exit 3", "echo never"))
        assert [item.exit_code for item in done.results] == [3]

    ask(start(), use)


def test_as_much_output_as_this_client_takes(start: StartRuntime) -> None:
    # Its own limit is a message of 1 MiB.
    done = ask(start(), lambda client: client.execute_commands(**commands("yes 1234567 | head -c 800000")))
    assert done.results[0].stdout == "1234567\n" * 100_000


def test_a_session(start: StartRuntime, tmp_path: Path) -> None:
    async def use(client: Any) -> None:
        async with client.session() as session:
            await session.execute_commands(**commands("echo milk > list"))
            for _ in range(3):
                assert (await session.query(prompt="cat list", options=options())).data.text == "milk\n"
            with pytest.raises(reference.AgentRuntimeError):
                await session.query(prompt="exit 1", options=options())
            assert (await session.query(prompt="echo on", options=options())).data.text == "on\n"

    ask(start(), use)


def test_a_cancel(start: StartRuntime) -> None:
    async def use(client: Any) -> None:
        async with client.session() as session:
            heard = Heard()
            asked = options(on_assistant_message=heard.on_assistant_message)
            running = asyncio.ensure_future(session.query(prompt="echo started; sleep 60", options=asked))
            await heard.first.wait()
            session.abort()
            with pytest.raises(reference.CancelledException):
                await running
            # The runtime's terminal message is on its way, and this client takes it for the next call's.
            for _ in range(2):
                try:
                    assert (await session.query(prompt="echo on", options=options())).data.text == "on\n"
                    break
                except (reference.AgentRuntimeError, reference.CancelledException):
                    continue
            else:
                raise AssertionError("the session did not go on")

    ask(start(), use)


def test_timeouts(start: StartRuntime) -> None:
    async def use(client: Any) -> None:
        with pytest.raises(TimeoutError):
            await client.query(prompt="sleep 60", options=options(timeout=0.3))

    ask(start(), use)


def test_heartbeats_do_no_harm(start: StartRuntime) -> None:
    async def use(client: Any) -> None:
        result = await client.query(prompt="sleep 0.3; echo done", options=options())
        assert result.data.text == "done\n"

    ask(start(heartbeat_interval=0.05), use)


def test_downloads(start: StartRuntime, storage: Storage) -> None:
    storage.files["/data.txt"] = b"the data"

    async def use(client: Any) -> None:
        def item(path: str) -> Any:
            return reference.RuntimeEnvironmentDownloadableInterface(download_url=storage.url + path, working_dir="in")

        result = await client.query(
            prompt="cat in/data.txt", options=options(pre_agent_downloadables=[item("/data.txt")])
        )
        assert result.data.text == "the data"
        with pytest.raises(reference.AgentRuntimeError, match="Download failed: 404 Not Found"):
            await client.query(prompt="true", options=options(pre_agent_downloadables=[item("/none")]))

    ask(start(), use)


def test_artifacts(start: StartRuntime, storage: Storage) -> None:
    async def on_artifact_upload_request(request: Any) -> Any:
        url = f"{storage.url}/{request.filename}?sig=x"
        return reference.ArtifactUploadResult(presigned_url=url, content_type="text/plain")

    async def use(client: Any) -> None:
        async with client.session() as session:
            watching = {"artifacts_dirs": ["out"], "on_artifact_upload_request": on_artifact_upload_request}
            await session.query(prompt="echo late > out/late.txt", options=options(**watching))

    ask(start(), use)
    [put] = storage.wait_for(1)
    assert (put.path, put.body, put.headers["Content-Type"]) == ("/late.txt?sig=x", b"late\n", "text/plain")


def test_redaction(start: StartRuntime) -> None:
    async def use(client: Any) -> Any:
        heard = Heard()
        asked = options(secrets_to_redact=["hunter2"], on_assistant_message=heard.on_assistant_message)
        result = await client.query(prompt="printf hun; sleep 0.1; echo ter2", options=asked)
        return heard.blocks, result.data.text

    assert ask(start(), use) == (["[REDACTED]"], "[REDACTED]\n")


def test_many_at_once(start: StartRuntime) -> None:
    async def agent(invocation: Invocation, sender: AsyncSender) -> str:
        for number in range(20):
            await sender.send_assistant_message(f"{invocation.user_prompt} {number}")
        return invocation.user_prompt

    async def one(client: Any, name: str) -> None:
        heard = Heard()
        asked = options(on_assistant_message=heard.on_assistant_message)
        assert (await client.query(prompt=name, options=asked)).data.text == name
        assert heard.blocks == [f"{name} {number}" for number in range(20)]

    async def use(client: Any) -> None:
        await asyncio.gather(*(one(client, f"client {number}") for number in range(30)))

    ask(start(agent), use)
