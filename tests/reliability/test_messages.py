"""Messages of every shape: whole conversations in which the runtime says anything at all.

They all happen on one session, so each call is also the next call of the one before.
"""

from __future__ import annotations

import json
import pickle
from typing import Any, Dict, List

import hypothesis
import pytest
from hypothesis import strategies as st

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    ProtocolError,
    RuntimeUseSession,
    StructuredOutputResult,
)

from ..support.builders import Serve, answer, client_of, text
from ..support.servers import BINARY, PATIENCE, TEXT, FaultServer, Message, Peer, frame
from ..support.tally import SEED, Tally, tries
from .meaning import (
    BROKEN,
    ERROR,
    MODELS,
    RESULT,
    TERMINALS,
    TEXTS,
    UPLOAD,
    VALUES,
    Meaning,
    in_json,
    meaning,
    paths,
    printable,
    put,
    streamed,
    wire_texts,
)


def examples(count: int) -> hypothesis.settings:
    """As many as asked for; none is made smaller, as after one that fails nothing more can be asked of the session."""
    phases = (hypothesis.Phase.generate,)
    return hypothesis.settings(max_examples=count, phases=phases, database=None, deadline=None)


class Talk:
    """A session with a server that answers the prompt `any` by whatever it has been given to say."""

    def __init__(self, serve: Serve) -> None:
        self._burst = b""
        self.server: FaultServer = serve(self._script)
        self.session: RuntimeUseSession = client_of(self.server).session()
        self._uploads: List[Any] = []

    def _script(self, peer: Peer) -> None:
        peer.accept()
        for message in peer.requests():
            if message.get("user_prompt") == "any":
                peer.raw(self._burst)
            elif "output_format_json_schema_str" in message:
                data = {"type": "structured_output", "structured_output": {"said": message["user_prompt"]}}
                peer.frame(TEXT, json.dumps({"message_type": "result_message", "data": data}).encode())
            elif "user_prompt" in message:
                # In ASCII: a prompt may hold what is no UTF-8.
                peer.frame(TEXT, json.dumps(text(message["user_prompt"])).encode())
            else:
                answer(peer, message)

    def say(self, *texts: str, opcode: int = TEXT) -> None:
        """Has the runtime say these, up to the query's sure end; asserts what the client makes of it."""
        meanings: List[Meaning] = []
        burst: List[bytes] = []
        for said in texts:
            burst.append(frame(opcode, said.encode()))
            meanings.append(meaning(said))
            if '"result_message"' in said and meanings[-1].kind in (RESULT, BROKEN):
                break
        else:
            burst.append(frame(TEXT, json.dumps(text("the end")).encode()))
            meanings.append(Meaning(RESULT, ("the end", {})))
        self._burst = b"".join(burst)
        self._ask_and_check(meanings)

    def _ask_and_check(self, meanings: List[Meaning]) -> None:
        end = next(index for index, each in enumerate(meanings) if each.kind in (RESULT, ERROR, BROKEN))
        heard: List[Any] = []
        came = Meaning(BROKEN)
        try:
            result = self.session.query(
                "any",
                timeout=PATIENCE,
                artifacts_dirs=["out"],
                on_artifact_upload_request=self._serve_upload,
                on_assistant_message=lambda m: heard.append(("assistant", m.text_blocks)),
                on_command_output=lambda m: heard.append(("output", [m.stream, m.text, m.command])),
                on_heartbeat=lambda m: heard.append(("heartbeat", [m.phase, m.elapsed_ms])),
            )
            structured = isinstance(result.data, StructuredOutputResult)
            came = Meaning(RESULT, (result.structured_output if structured else result.text, result.metadata))
        except ProtocolError as error:
            assert_can_be_shown(error)
        except AgentRuntimeError as error:
            assert_can_be_shown(error)
            came = Meaning(ERROR, (error.error, error.metadata))
        assert same(came, printable(meanings[end])), (came, meanings[end])
        assert same(heard, streamed(meanings[:end]))
        assert self.session.query("next", timeout=PATIENCE).text == "next"
        # None is lost, wherever it came: those after the end were kept, and answered in the next call.
        uploads = [printable(each.content) for each in meanings if each.kind == UPLOAD]
        assert same(self._uploads, uploads)
        self._uploads.clear()

    def _serve_upload(self, request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        self._uploads.append((request.filename, request.filepath))
        return ArtifactUploadResult("http://storage/", "text/plain")


def same(one: Any, other: Any) -> bool:
    """Returns whether they are the same JSON; unlike `==`, so is NaN, and 1 is not 1.0 or True."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def assert_can_be_shown(error: AgentRuntimeError) -> None:
    assert isinstance(str(error), str)
    assert isinstance(repr(error), str)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(type(error)(*json.loads(json.dumps(error.args)))) == str(error)


@pytest.fixture
def talk(serve: Serve) -> Any:
    talk = Talk(serve)
    with talk.session:
        yield talk


@pytest.mark.timeout(900)
def test_any_conversation(talk: Talk, tally: Tally) -> None:
    fault = "messages: any JSON anywhere"

    def only_one_error_before_commands(texts: List[str]) -> bool:
        """A runtime that answers a query with the result of commands after an error cannot be told from the barrier."""
        kinds = [each for said in texts for each in TERMINALS if f'"{each}"' in said]
        return "error_message" not in kinds or "command_execution_result_message" not in kinds

    @hypothesis.seed(SEED)
    @examples(tries(25, 2000))
    @hypothesis.given(st.lists(wire_texts(), max_size=5).filter(only_one_error_before_commands))
    def converse(texts: List[str]) -> None:
        tally.tried(fault)
        talk.say(*texts)
        tally.survived(fault)

    converse()


#: As they stand on the wire. What a parser of some version cannot take is the end of its message, not of the session.
SPECIAL: Dict[str, str] = {
    "1,000 arrays deep": "[" * 1000 + "]" * 1000,
    "1,000 objects deep": '{"a":' * 1000 + "1" + "}" * 1000,
    "100,000 arrays deep": "[" * 100_000 + "]" * 100_000,
    "an integer of 4,000 digits": "9" * 4000,
    "an integer of 10,000 digits": "-" + "9" * 10_000,
    "over every float": "1e999",
    "NaN": "NaN",
    "minus nothing": "-0.0",
    "a lone surrogate": '"\\ud800"',
    "surrogates the wrong way round": '"\\udc00\\ud800"',
    "NUL": '"\\u0000"',
    "the same key twice": '{"a": 1, "a": "x"}',
    "a key with NUL": '{"\\u0000": 1, "": 2}',
    "a long text": '"' + "x" * 300_000 + '"',
    "control characters": '"\\u001b[31m\\r\\n\\b"',
    "null": "null",
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_values_in_every_place(talk: Talk, tally: Tally, name: str) -> None:
    fault = "messages: deep, huge, twice, surrogates, NUL"
    for model in MODELS:
        for path in paths(model):
            holder = json.dumps(put(model, path, "@@"))
            tally.tried(fault)
            talk.say(holder.replace('"@@"', SPECIAL[name]))
            tally.survived(fault)


def test_binary_frames(talk: Talk, tally: Tally) -> None:
    """Nobody sends any; they are read like text ones."""
    for model in MODELS:
        tally.tried("messages: in binary frames")
        talk.say(json.dumps(model), opcode=BINARY)
        tally.survived("messages: in binary frames")


@pytest.mark.timeout(900)
def test_any_request_arrives_as_it_is(talk: Talk, tally: Tally) -> None:
    fault = "messages: any text in a request"
    some = TEXTS.filter(str.strip)
    names = st.text("AbZ_9", min_size=1)
    env = st.dictionaries(names, TEXTS.filter(lambda value: "\0" not in value), max_size=3)

    @hypothesis.seed(SEED)
    @examples(tries(10, 1000))
    @hypothesis.given(some, TEXTS, some, st.lists(TEXTS.filter(bool), max_size=3), env, st.dictionaries(TEXTS, VALUES))
    def ask(prompt: str, system: str, model: str, secrets: List[str], agent_env: Dict[str, str], schema: Any) -> None:
        hypothesis.assume(prompt != "any")
        tally.tried(fault)
        schema_text = json.dumps({"type": "json_schema", "schema": schema})
        # Python writes these, and they are no JSON: such a text is refused before it is sent.
        hypothesis.assume("Infinity" not in schema_text and "NaN" not in schema_text)
        assert talk.session.query(
            prompt,
            system_prompt=system,
            model=model,
            secrets_to_redact=secrets,
            agent_env=agent_env,
            output_format_json_schema_str=schema_text,
            timeout=PATIENCE,
        ).structured_output == {"said": printable(prompt)}
        sent: Message = talk.server.messages[-1]
        assert sent["agent_env"] == in_json(agent_env)
        assert [sent["user_prompt"], sent["system_prompt"], sent["model"]] == in_json([prompt, system, model])
        assert [sent["secrets_to_redact"], sent["output_format_json_schema_str"]] == in_json([secrets, schema_text])
        tally.survived(fault)

    ask()
