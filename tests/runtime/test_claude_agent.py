"""The built-in agent `claude` against a program that speaks the protocol of the Claude Agent SDK."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
from websockets.sync.client import connect

from ..support.fake_claude import FakeClaude, Step, ends, refuses, runs, says
from ..support.packages import said_without
from ..support.processes import Pipe, killed_in_the_end, wait_until_ended
from ..support.servers import PATIENCE
from .conftest import StartRuntime
from .wire import CANCELLED, FORMAT, SCHEMA, Message, Wire, wire_to

Ask = Callable[..., List[Message]]


def test_a_missing_sdk_is_named() -> None:
    assert 'pip install "runtimeuse-sync[runtime,claude]"' in said_without("claude_agent_sdk", "claude")


class TestWithTheSdk:
    @pytest.fixture(autouse=True)
    def sdk(self) -> None:
        pytest.importorskip(
            "claude_agent_sdk", reason="needs the Claude Agent SDK, which the tests have on Python 3.13 and later"
        )

    @pytest.fixture
    def claude(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeClaude:
        program = FakeClaude(tmp_path_factory.mktemp("claude") / "bin")
        monkeypatch.setenv("PATH", program.path)
        return program

    @pytest.fixture
    def wire(self, start: StartRuntime, claude: FakeClaude) -> Iterator[Wire]:
        with wire_to(start("claude")) as wire:
            yield wire

    @pytest.fixture
    def ask(self, wire: Wire, claude: FakeClaude) -> Ask:
        def ask(*steps: Step, start: List[Step] = [], **fields: Any) -> List[Message]:  # noqa: B006
            claude.plays(*steps, start=start)
            return wire.query("the question", **{"system_prompt": "be brief", "model": "claude-x", **fields})

        return ask

    def test_each_message_is_streamed_and_the_result_has_the_metadata(
        self, ask: Ask, claude: FakeClaude, tmp_path: Path
    ) -> None:
        messages = ask(says("I'll ", "look."), runs("echo here > made"), says("It's there."), ends("It's there."))
        assert messages[:-1] == [
            {"message_type": "assistant_message", "text_blocks": ["I'll ", "look."]},
            {"message_type": "assistant_message", "text_blocks": ["It's there."]},
        ]
        assert messages[-1] == {
            "message_type": "result_message",
            "data": {"type": "text", "text": "It's there."},
            "metadata": {
                "duration_ms": 1500,
                "num_turns": 3,
                "total_cost_usd": 0.25,
                "usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 3},
                "session_id": "0b1c2d3e-0000-4000-8000-000000000001",
            },
        }
        assert (tmp_path / "made").read_text() == "here\n"
        [run] = claude.seen()
        assert run["prompt"] == "the question"
        assert Path(run["cwd"]) == tmp_path
        assert self.options(run["arguments"]) == {
            "--output-format": "stream-json",
            "--input-format": "stream-json",
            "--verbose": None,
            "--permission-mode": "bypassPermissions",
            "--model": "claude-x",
            "--system-prompt": "be brief",
        }

    @staticmethod
    def options(arguments: List[str]) -> Any:
        options, words = {}, list(arguments)
        while words:
            name = words.pop(0)
            options[name] = None if name == "--verbose" else words.pop(0)
        return options

    def test_the_messages_come_while_it_goes_on(self, wire: Wire, claude: FakeClaude, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "go")
        claude.plays(says("First."), {"waits": str(tmp_path / "go")}, ends())
        wire.send_query("x")
        assert wire.expect("assistant_message")["text_blocks"] == ["First."]
        (tmp_path / "go").write_text("on")
        assert wire.expect("result_message")["data"]["text"] == "Done."

    def test_the_environment_is_the_runtime_s_and_the_client_s(
        self, ask: Ask, claude: FakeClaude, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-runtime")
        monkeypatch.setenv("RUNTIMEUSE_TOKEN", "opensesame")
        monkeypatch.setenv("CLAUDECODE", "1")
        ask(ends())
        ask(ends(), agent_env={"ANTHROPIC_API_KEY": "sk-of-the-client", "IS_SANDBOX": "0"})
        first, second = (run["environment"] for run in claude.seen())
        assert first["ANTHROPIC_API_KEY"] == "sk-of-the-runtime"
        assert second["ANTHROPIC_API_KEY"] == "sk-of-the-client"
        assert not {"RUNTIMEUSE_TOKEN", "CLAUDECODE"} & set(first)
        assert first["CLAUDE_CODE_ENTRYPOINT"] == "sdk-py"
        # As root it refuses to work without that.
        assert os.geteuid() != 0 or first["IS_SANDBOX"] == "1"
        assert second["IS_SANDBOX"] == "0"

    def test_the_client_s_path_has_the_program(
        self, ask: Ask, claude: FakeClaude, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setenv("PATH", "/usr/bin:/bin")
            assert ask(ends("hello"), agent_env={"PATH": claude.path})[-1]["data"]["text"] == "hello"

    def test_without_model_and_system_prompt_it_has_its_own(self, ask: Ask, claude: FakeClaude) -> None:
        ask(ends(), system_prompt="", model="")
        assert not {"--model", "--system-prompt"} & set(claude.seen()[0]["arguments"])

    def test_a_long_system_prompt_arrives(self, ask: Ask, claude: FakeClaude) -> None:
        prompt = "be brief, é. " * 50_000
        assert ask(ends(), system_prompt=prompt)[-1]["data"]["text"] == "Done."
        [run] = claude.seen()
        assert run["system_prompt"] == prompt
        assert not os.path.exists(self.options(run["arguments"])["--system-prompt-file"])

    def test_a_schema_that_is_too_long_is_an_error(self, ask: Ask, wire: Wire) -> None:
        schema = {"type": "object", "description": "x" * 3_000_000}
        answer = ask(output_format_json_schema_str=json.dumps(schema))[-1]
        assert answer["error"] == "claude could not be started: Argument list too long"
        wire.assert_idle()

    def test_a_large_prompt_arrives(self, wire: Wire, claude: FakeClaude) -> None:
        claude.plays(ends())
        prompt = "é" * 300_000
        assert wire.query(prompt)[-1]["data"]["text"] == "Done."
        assert claude.seen()[0]["prompt"] == prompt

    def test_with_a_schema_the_result_is_json(self, ask: Ask, claude: FakeClaude) -> None:
        result = ask(ends("", structured_output={"n": 3}), output_format_json_schema_str=FORMAT)[-1]
        assert result["data"] == {"type": "structured_output", "structured_output": {"n": 3}}
        assert json.loads(self.options(claude.seen()[0]["arguments"])["--json-schema"]) == SCHEMA

    def test_an_older_program_s_text_will_do(self, ask: Ask) -> None:
        result = ask(ends('{"n": 3}'), output_format_json_schema_str=FORMAT)[-1]
        assert result["data"]["structured_output"] == {"n": 3}

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"structured_output": {"n": "x"}}, "claude's answer does not match the schema: $.n: "),
            ({"structured_output": [3]}, "claude's answer does not match the schema"),
            ({"result": "three"}, "claude's answer is not JSON"),
        ],
    )
    def test_what_does_not_match_it_is_an_error(self, ask: Ask, wire: Wire, fields: Any, said: str) -> None:
        assert said in ask({"ends": {"result": "", **fields}}, output_format_json_schema_str=FORMAT)[-1]["error"]
        wire.assert_idle()

    def test_after_work_in_the_background_the_last_result_counts(self, ask: Ask) -> None:
        messages = ask(says("Started."), ends("Started."), says("It's done."), ends("It's done."))
        assert messages[-1]["data"]["text"] == "It's done."

    @pytest.mark.parametrize(
        ("steps", "error", "details"),
        [
            (
                [refuses("Not logged in · Please run /login", error="authentication_failed")],
                "set ANTHROPIC_API_KEY in agent_env or in the runtime's environment: Not logged in · Please run /login",
                "session_id: 0b1c2d3e",
            ),
            (
                [refuses("API Error: Request rejected (429) · too many", error="unknown", api_error_status=429)],
                "claude has reached a rate limit: API Error: Request rejected (429) · too many",
                "",
            ),
            (
                [
                    {
                        "message": {
                            "type": "rate_limit_event",
                            "uuid": "u",
                            "session_id": "s",
                            "rate_limit_info": {"status": "rejected", "resetsAt": 1_800_000_000},
                        }
                    },
                    refuses("You've hit your limit", error="rate_limit"),
                ],
                "claude has reached a rate limit, until 2027-01-15 08:00 UTC: You've hit your limit",
                "",
            ),
            (
                [
                    says("Working."),
                    ends("", subtype="error_max_turns", is_error=True, errors=["Reached maximum number of turns (1)"]),
                ],
                "claude has reached its limit of turns, 1: Reached maximum number of turns (1)",
                "total_cost_usd: 0.25",
            ),
            (
                [ends("", subtype="error_max_structured_output_retries", is_error=True)],
                "claude's answers did not match the schema: error_max_structured_output_retries",
                "",
            ),
            (
                [
                    {"complains": "the disk is full\n"},
                    ends("", subtype="error_during_execution", is_error=True, errors=["ENOSPC", "gave up"]),
                    {"exits": 1},
                ],
                "claude failed: ENOSPC; gave up",
                "the disk is full",
            ),
            ([{"complains": "a\nout of memory\n"}, {"exits": 3}], "(exit code: 3): out of memory", "a\nout of memory"),
            ([says("Working."), {"dies": signal.SIGKILL}], "without a result (a signal ended it)", None),
            ([{"writes": '{"type": "assist'}, {"exits": 1}], "claude ended without a result (exit code: 1)", None),
            ([{"exits": 0}], "claude ended without a result (exit code: 0)", None),
            # It was at work again.
            ([ends("Started."), says("More."), {"exits": 1}], "claude ended without a result (exit code: 1)", None),
            (
                [says("a"), {"writes": '{"type": oops}\n'}, runs("sleep 60")],
                "claude wrote a line that is not JSON: Expecting value at character 9",
                None,
            ),
            (
                [{"message": {"type": "assistant", "message": "x"}}, runs("sleep 60")],
                "the SDK cannot follow claude: TypeError",
                "",
            ),
            (
                [{"message": {"type": "result", "subtype": "success"}}, runs("sleep 60")],
                "the SDK cannot follow claude: MessageParseError: Missing required field in result message",
                "",
            ),
        ],
    )
    def test_what_goes_wrong_is_said_and_the_session_goes_on(
        self, ask: Ask, wire: Wire, steps: List[Step], error: str, details: str
    ) -> None:
        answer = ask(*steps)[-1]
        assert answer["message_type"] == "error_message"
        assert error in answer["error"]
        assert (details or "") in answer["metadata"].get("error_details", "")
        wire.assert_idle()
        assert ask(says("Hello."), ends("Hello."))[-1]["data"]["text"] == "Hello."

    def test_an_answer_that_is_an_error_is_no_message(self, ask: Ask) -> None:
        assert len(ask(refuses("Not logged in", error="authentication_failed"))) == 1

    @pytest.mark.parametrize(
        ("first", "error"),
        [
            (
                [{"complains": "not as root\n"}, {"exits": 1}],
                "claude ended without a result (exit code: 1): not as root",
            ),
            ([{"writes": "{]\n"}, runs("sleep 60")], "claude wrote a line that is not JSON"),
        ],
    )
    def test_so_it_is_if_it_goes_wrong_at_the_start(
        self, ask: Ask, wire: Wire, caplog: pytest.LogCaptureFixture, first: List[Step], error: str
    ) -> None:
        assert error in ask(start=first)[-1]["error"]
        wire.assert_idle()
        # The SDK logs the text of what a transport raises.
        assert not [record for record in caplog.records if record.levelno > logging.INFO]

    def test_lines_for_people_and_unknown_messages_are_passed_over(self, ask: Ask) -> None:
        noise: List[Step] = [
            {"writes": "[SandboxDebug] starting\n\n"},
            {"message": {"type": "of the future", "x": 1}},
            {"writes": '"text"\r\n'},
            {"message": {"type": "stream_event", "uuid": "u", "session_id": "s", "event": {}}},
        ]
        messages = ask(*noise, says("Hello."), *noise, ends("Hello."), *noise)
        assert [message["message_type"] for message in messages] == ["assistant_message", "result_message"]

    def test_a_result_without_a_newline_counts(self, ask: Ask) -> None:
        result = {"type": "result", "subtype": "success", "is_error": False, "session_id": "s", "result": "end"}
        told = {"duration_ms": 1, "duration_api_ms": 1, "num_turns": 1}
        answer = ask({"writes": json.dumps({**result, **told})})[-1]
        assert answer["data"]["text"] == "end"
        assert answer["metadata"] == {"duration_ms": 1, "num_turns": 1, "session_id": "s"}

    def test_a_line_may_be_long(self, ask: Ask) -> None:
        text = "long " * 200_000
        messages = ask(says(text), ends(text))
        assert messages[0]["text_blocks"] == [text]
        assert messages[1]["data"]["text"] == text

    def test_but_not_without_end(self, ask: Ask, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("runtimeuse_sync.runtime.agents.claude_process._LONGEST_LINE", 100_000)
        answer = ask({"writes": "x" * 1_000_000}, runs("sleep 60"))[-1]
        assert answer["error"] == "claude wrote a line of more than 100000 characters"
        wire.assert_idle()

    def test_no_program(self, ask: Ask, wire: Wire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        nowhere = tmp_path / "no" / "claude"
        monkeypatch.setattr("runtimeuse_sync.runtime.agents.claude_process.bundled_claude", lambda: nowhere)
        environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
        assert "needs the executable claude, which is neither in PATH" in ask(agent_env=environment)[-1]["error"]
        nowhere.parent.mkdir()
        nowhere.write_text("#!/no/such/interpreter\n")
        nowhere.chmod(0o755)
        assert ask(agent_env=environment)[-1]["error"] == "claude could not be started: No such file or directory"
        wire.assert_idle()

    def test_what_no_program_can_get(self, ask: Ask, wire: Wire) -> None:
        assert ask(model="a\0b")[-1]["error"] == "claude could not be started: embedded null byte"
        wire.assert_idle()

    def test_an_output_format_that_is_no_schema(self, ask: Ask) -> None:
        assert "is not a JSON schema" in ask(output_format_json_schema_str='"x"')[-1]["error"]

    def test_secrets_stay_in(self, ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
        secrets = {"secrets_to_redact": ["hunter2"]}
        with caplog.at_level(logging.DEBUG, logger="runtimeuse_sync"):
            complaint: List[Step] = [{"complains": "hun"}, {"complains": "ter2\n"}]
            messages = ask(says("It is hunter2."), *complaint, {"exits": 1}, **secrets)
            messages += ask(refuses("no hunter2", error="unknown"), **secrets)
        assert "hunter2" not in json.dumps(messages)
        assert messages[0]["text_blocks"] == ["It is [REDACTED]."]
        assert messages[1]["error"].endswith("(exit code: 1): [REDACTED]")
        assert "hunter2" not in caplog.text

    @pytest.mark.parametrize("stubborn", [False, True])
    def test_a_cancel_ends_it_and_what_it_has_started(
        self, start: StartRuntime, claude: FakeClaude, tmp_path: Path, stubborn: bool
    ) -> None:
        pipe = Pipe(tmp_path / "pids")
        trap = "trap '' TERM; " if stubborn else ""
        steps = [{"ignores": int(signal.SIGTERM)}] if stubborn else []
        claude.plays(*steps, runs(f"{trap}sleep 60 & echo $PPID $! $$ > pids; wait; sleep 60"))
        with wire_to(start("claude", kill_grace=0.1 if stubborn else 30)) as wire:
            wire.send_query("x")
            pids = pipe.numbers()
            wire.cancel()
            assert wire.receive_until()[-1] == CANCELLED
            wait_until_ended(*pids)
            claude.plays(ends())
            assert wire.query("y")[-1]["data"]["text"] == "Done."

    def test_a_cancel_while_it_starts(self, wire: Wire, claude: FakeClaude, tmp_path: Path) -> None:
        pipe = Pipe(tmp_path / "pids")
        claude.plays(start=[runs("echo $PPID $$ > pids; sleep 60")])
        wire.send_query("x")
        pids = pipe.numbers()
        wire.cancel()
        assert wire.receive_until()[-1] == CANCELLED
        wait_until_ended(*pids)
        wire.assert_idle()

    def test_a_cancel_while_it_does_not_read_its_prompt(self, wire: Wire, claude: FakeClaude, tmp_path: Path) -> None:
        pipe = Pipe(tmp_path / "pids")
        claude.executable.write_text(
            "#!/bin/sh\nread line\n"
            'id=${line#*request_id\\": \\"}\nid=${id%%\\"*}\n'
            'echo "{\\"type\\": \\"control_response\\", \\"response\\": {\\"subtype\\": \\"success\\", '
            '\\"request_id\\": \\"$id\\"}}"\n'
            "echo $$ > pids\nsleep 60\n"
        )
        wire.send_query("x" * 1_000_000)
        pids = pipe.numbers()
        wire.cancel()
        assert wire.receive_until()[-1] == CANCELLED
        wait_until_ended(*pids)
        wire.assert_idle()

    def test_a_client_that_vanishes_ends_it_too(self, start: StartRuntime, claude: FakeClaude, tmp_path: Path) -> None:
        pipe = Pipe(tmp_path / "pids")
        claude.plays(runs("sleep 60 & echo $PPID $! $$ > pids; wait"))
        with wire_to(start("claude")) as wire:
            wire.send_query("x")
            pids = pipe.numbers()
        wait_until_ended(*pids)

    def test_so_does_the_runtime_s_end(self, start: StartRuntime, claude: FakeClaude, tmp_path: Path) -> None:
        pipe = Pipe(tmp_path / "pids")
        claude.plays({"ignores": int(signal.SIGTERM)}, runs("sleep 60 & echo $PPID $! $$ > pids; wait"))
        runtime = start("claude", kill_grace=30, stop_timeout=0.3)
        with wire_to(runtime) as wire:
            wire.send_query("x")
            pids = pipe.numbers()
            runtime.stop()
            assert wire.receive_until()[-1] == CANCELLED
        wait_until_ended(*pids)

    @pytest.mark.skipif(sys.version_info < (3, 13), reason="another process: on the newest interpreter only")
    def test_the_command_line_has_it_too(self, claude: FakeClaude, tmp_path: Path) -> None:
        claude.plays(says("Hello."), ends("Hello."))
        command = [sys.executable, "-m", "runtimeuse_sync", "serve", "--agent", "claude", "--port", "0"]
        process = subprocess.Popen(
            [*command, "--root", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with killed_in_the_end(process):
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            with connect(url) as connection:
                assert Wire(connection).query("x")[-1]["data"]["text"] == "Hello."
            process.terminate()
            assert process.communicate(timeout=PATIENCE) == ("", "")
