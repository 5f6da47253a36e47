"""What a run keeps of the output it received: how much, and which command printed it."""

from __future__ import annotations

import tracemalloc
from typing import Any, Iterable, List, Optional, Sequence, Tuple

import pytest

from runtimeuse_sync import CommandResultItem
from runtimeuse_sync._session.command_results import failed_command, so_far, stdout_seen, with_output
from runtimeuse_sync._session.output import Output, last_bytes
from runtimeuse_sync._wire.request import RequestedCommands
from runtimeuse_sync.messages import AssistantMessageInterface, CommandOutputMessageInterface

KEEP = 1000


def received(asked: RequestedCommands, *chunks: Any, keep: int = KEEP, secrets: Sequence[str] = ()) -> Output:
    """Returns the output of a run that received chunks: `(command, text, stream)`, or a text of the agent."""
    output = Output(asked, keep, secrets)
    for number, chunk in enumerate(chunks):
        if isinstance(chunk, str):
            output.add(AssistantMessageInterface("assistant_message", [chunk]))
        else:
            command, text, *stream = chunk
            output.add(
                CommandOutputMessageInterface("command_output_message", (stream or ["stdout"])[0], text, command)
            )
        if number % 3 == 0:
            output.settle(number)
    return output


def items(results: Iterable[CommandResultItem]) -> List[Tuple[str, Optional[int], Optional[str], Optional[str]]]:
    return [(item.command, item.exit_code, item.stdout, item.stderr) for item in results]


@pytest.mark.parametrize(
    ("text", "size", "kept"),
    [
        ("abc", 2, "bc"),
        ("abc", 9, "abc"),
        ("abc", 0, ""),
        ("aä", 2, "ä"),
        ("aä", 1, ""),
        ("ä😀", 5, "😀"),
        ("x\ud83d", 3, "\ud83d"),
    ],
)
def test_the_last_bytes_of_a_text(text: str, size: int, kept: str) -> None:
    assert last_bytes(text, size) == kept


@pytest.mark.parametrize("piece", ["x" * 39 + "\n", "ä" * 3000, "😀", "y" * 200_000])
def test_the_end_of_each_stream_is_kept(piece: str) -> None:
    chunks = [
        ("c", piece if number < 299 else "last", stream) for number in range(300) for stream in ("stdout", "stderr")
    ]
    output = received(RequestedCommands(["c"]), *chunks)
    [(_, code, stdout, stderr)] = items(so_far(output, [], sent=True))
    assert code is None
    assert stdout == stderr == last_bytes(piece * 299 + "last", KEEP)
    assert stdout_seen([CommandResultItem("c", -1)], 0, output) == len((piece * 299 + "last").encode())


def test_nothing_is_kept() -> None:
    output = received(RequestedCommands(["c"]), keep=0)
    assert so_far(output, [], sent=True) == []
    assert output.texts([]) == []
    results = [CommandResultItem("c", 3)]
    assert with_output(results, output) == results


@pytest.mark.parametrize("said", ["x" * 100, "", "ä" * 5000])
def test_memory_is_bounded(said: str) -> None:
    commands = [f"c{number}" for number in range(2000)]
    tracemalloc.start()
    try:
        output = Output(RequestedCommands(commands), 10_000, [])
        before = tracemalloc.get_traced_memory()[0]
        for number in range(4_000):
            for stream in ("stdout", "stderr"):
                output.add(
                    CommandOutputMessageInterface(
                        "command_output_message", stream, f"{said}{number}", f"c{number % 5000}"
                    )
                )
            if number % 10 == 0:
                output.add(AssistantMessageInterface("assistant_message", [f"{said}{number}"]))
            output.settle(number)
        assert tracemalloc.get_traced_memory()[0] - before < 8_000_000
    finally:
        tracemalloc.stop()
    assert sum(len(text.encode()) for text in output.texts([])) <= 10_000


def test_what_the_agent_said_last_is_kept() -> None:
    output = received(RequestedCommands((), 0), *[f"{number:100}" for number in range(50)], "the secret")
    texts = output.texts(["secret"])
    assert texts[-1] == "the [REDACTED]"
    assert texts[-2] == f"{49:100}"
    assert sum(map(len, texts)) <= KEEP


def test_a_secret_at_the_cut_is_masked() -> None:
    secret = "s3cr3t" * 10
    for before in range(len(secret) + 20):
        output = received(RequestedCommands(["c"]), ("c", "." * 100 + secret + "x" * (KEEP - before)), secrets=[secret])
        [(_, _, stdout, _)] = items(so_far(output, [secret], sent=True))
        assert stdout is not None
        assert not any(part in stdout for part in ("s3", "3c", "cr", "r3", "3t"))


A, B = "echo a", "echo b"


@pytest.mark.parametrize(
    ("commands", "chunks", "expected"),
    [
        ([A, B], [], [(A, None, None, None)]),
        ([A, B], [(A, "a")], [(A, None, "a", None)]),
        ([A, B], [(B, "b")], [(A, 0, None, None), (B, None, "b", None)]),
        (
            [A, B, A],
            [(A, "1"), (B, "b"), (A, "2", "stderr")],
            [(A, 0, "1", None), (B, 0, "b", None), (A, None, None, "2")],
        ),
        # Equal commands in a row look like one: their output belongs to the last one that must have run.
        ([A, A], [(A, "1"), (A, "2")], [(A, None, "12", None)]),
        ([A, A, B], [(A, "1"), (A, "2"), (B, "b")], [(A, 0, None, None), (A, 0, "12", None), (B, None, "b", None)]),
        ([A, B, A], [(B, "b"), (A, "2")], [(A, 0, None, None), (B, 0, "b", None), (A, None, "2", None)]),
        # A command that was not requested.
        ([A], [("other", "?"), (A, "a")], [("other", None, "?", None), (A, None, "a", None)]),
    ],
)
def test_whose_output_it_is(commands: List[str], chunks: Any, expected: Any) -> None:
    assert items(so_far(received(RequestedCommands(commands), *chunks), [], sent=True)) == expected


def test_a_request_that_was_not_sent_has_run_nothing() -> None:
    assert so_far(received(RequestedCommands([A])), [], sent=False) == []


@pytest.mark.parametrize("shown", ["echo [REDACTED] ab", "echo [REDACTED] [REDACTED]"])
def test_commands_are_known_by_their_redacted_text(shown: str) -> None:
    asked = RequestedCommands(["true", "echo abc ab"], None, ["abc", "ab"] if shown.endswith("[REDACTED]") else ["abc"])
    output = received(asked, (shown, "x"))
    assert items(so_far(output, ["abc"], sent=True)) == [
        ("true", 0, None, None),
        ("echo [REDACTED] ab", None, "x", None),
    ]


@pytest.mark.parametrize(
    ("results", "chunks", "expected"),
    [
        # The real runtime sends no stdout of a command that fails.
        ([(A, 3, None)], [(A, "a"), (A, "e", "stderr")], [(A, 3, "a", "e")]),
        # A runtime that sends it sends all of it.
        ([(A, 3, "whole")], [(A, "le")], [(A, 3, "whole", None)]),
        ([(A, 0, None)], [(A, "e", "stderr")], [(A, 0, None, "e")]),
        # The output of equal commands before it is known.
        ([(A, 0, "a"), (A, 3, None)], [(A, "a"), (A, "b")], [(A, 0, "a", None), (A, 3, "b", None)]),
        ([(A, 0, "a"), (A, 3, None)], [(A, "ab"), (A, "e", "stderr")], [(A, 0, "a", None), (A, 3, "b", "e")]),
        ([(A, 0, "a"), (A, 3, None)], [(A, "a")], [(A, 0, "a", None), (A, 3, None, None)]),
        # A silent command does not separate two with the same text.
        (
            [(A, 0, "a"), (B, 0, None), (A, 3, None)],
            [(A, "ab")],
            [(A, 0, "a", None), (B, 0, None, None), (A, 3, "b", None)],
        ),
        (
            [(A, 0, None), (B, 0, "b"), (A, 3, None)],
            [(B, "b"), (A, "c")],
            [(A, 0, None, None), (B, 0, "b", None), (A, 3, "c", None)],
        ),
        ([(A, 3, None)], [("other", "?")], [(A, 3, None, None)]),
    ],
)
def test_results_are_completed(results: Any, chunks: Any, expected: Any) -> None:
    output = received(RequestedCommands([command for command, _, _ in results]), *chunks)
    sent = [CommandResultItem(*each) for each in results]
    assert items(with_output(sent, output)) == expected
    assert items(sent) == [(*each, None) for each in results], "what came is left as it is"


def test_equal_commands_are_told_apart_even_if_only_the_end_is_kept() -> None:
    output = received(RequestedCommands([A, A]), *[(A, "x" * 100)] * 50, (A, "y" * 10))
    results = [CommandResultItem(A, 0, "x" * 5000), CommandResultItem(A, 3)]
    assert with_output(results, output)[1].stdout == "y" * 10


PRE, POST = "make", "make install"


@pytest.mark.parametrize(
    ("error", "asked", "chunks", "expected"),
    [
        ("pre-agent command failed with exit code: 5", ([PRE], 1), [], ([(PRE, 5, None, None)], PRE, 5)),
        ("pre-agent command failed with exit code: -1", ([PRE, B], 2), [(PRE, "m")], ([(PRE, -1, "m", None)], PRE, -1)),
        (
            "pre-agent command failed with exit code: 5",
            ([A, PRE, B], 3),
            [(A, "a"), (PRE, "why", "stderr")],
            ([(A, 0, "a", None), (PRE, 5, None, "why")], PRE, 5),
        ),
        (
            "post-agent command failed with exit code: 2",
            ([PRE, POST], 1),
            [(PRE, "m"), "said"],
            ([(PRE, 0, "m", None), (POST, 2, None, None)], POST, 2),
        ),
        (
            "post-agent command failed with exit code: 2",
            ([PRE, PRE], 1),
            [(PRE, "m"), "said", (PRE, "n")],
            ([(PRE, 0, "m", None), (PRE, 2, "n", None)], PRE, 2),
        ),
        # Output of a command that cannot have run yet.
        (
            "pre-agent command failed with exit code: 5",
            ([PRE, POST], 1),
            [(PRE, "m"), (POST, "p")],
            ([(PRE, 5, "m", None)], PRE, 5),
        ),
        # Unknown which one failed.
        ("post-agent command failed with exit code: 2", ([PRE, A, B], 1), [(PRE, "m")], ([(PRE, 0, "m", None)], "", 2)),
    ],
)
def test_which_command_of_a_query_has_failed(error: str, asked: Any, chunks: Any, expected: Any) -> None:
    found = failed_command(error, received(RequestedCommands(*asked), *chunks), [])
    assert found is not None
    assert (items(found[0]), *found[1:]) == expected


@pytest.mark.parametrize(
    "error",
    ["it failed", "pre-agent command failed with exit code: 5, it says", "post-agent command failed with exit code: 5"],
)
def test_other_errors_are_no_failed_commands(error: str) -> None:
    assert failed_command(error, received(RequestedCommands([PRE], 1)), []) is None
    assert failed_command(error, received(RequestedCommands([PRE])), []) is None


def test_an_agent_that_speaks_has_all_commands_before_it_behind_it() -> None:
    asked = RequestedCommands([A, B, POST], 2)
    assert items(so_far(received(asked, (A, "a")), [], sent=True)) == [(A, None, "a", None)]
    before = [(A, 0, "a", None), (B, 0, None, None)]
    assert items(so_far(received(asked, (A, "a"), "hi"), [], sent=True)) == before
    after = received(asked, (A, "a"), "hi", (POST, "p"))
    assert items(so_far(after, [], sent=True)) == [*before, (POST, None, "p", None)]
    assert so_far(received(RequestedCommands([POST], 0)), [], sent=True) == []
