"""What scripts in interpreters of their own have in common: calls of each kind, and what a process holds.

It is text, which a script begins with: `children.run(CALLS + CHILD, …)`. The script defines `client` and `shared`, an
open session, and the seconds `LIMIT` that a call may take.
"""

from __future__ import annotations

CALLS = """
import gc, threading
import psutil

def right(prompt, owner, **options):
    seen = []
    note = lambda message: seen.append(message.text_blocks)
    got = owner.query(prompt, timeout=LIMIT, on_assistant_message=note, **options)
    assert got.text == prompt and seen == [[prompt]] * 3, (prompt, got, seen)

def one_shot(prompt):
    right(prompt, client)

def session(prompt):
    right(prompt, shared)

def opened(prompt, **options):
    with client.session() as own:
        right(prompt, own, **options)

def streamed(prompt):
    with shared.stream(prompt, timeout=LIMIT) as run:
        assert [message.text_blocks for message in run] == [[prompt]] * 3
        assert run.result.text == prompt

def commands(prompt):
    done = shared.execute_commands([prompt, "b"], timeout=LIMIT)
    assert [each.command for each in done.results] == [prompt, "b"]

def held():
    gc.collect()
    ours = sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("runtimeuse"))
    return ours, psutil.Process().num_fds()
"""
