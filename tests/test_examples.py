"""Every example runs as it is, without a terminal, says what it is meant to show, and writes nothing to stderr."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from .support.packages import needs
from .support.plugin import INSTALLED
from .support.processes import CHILD_LIMIT

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"

#: What the application of Celery prints, whether its broker is in memory or not.
CELERY_APP_PRINTS = [
    "answer: four",
    "failed: cat nothing.txt 1 after ['looking\\n', None]",
    "gathered: 50 answer 0 … answer 49",
    "progress: True",
    "aborted: ['reading']",
    "built: 42",
]

#: A pattern for all that each example prints.
PRINTS = {
    "quickstart": r"""
        Runtime\ +ws://127\.0\.0\.1:\d+, in this process
        Directory\ +\S+quickstart-\S+, removed at the end

        Query\ .+
        \ +\d+\.\d\d s   writing down the temperatures
        \ +\d+\.\d\d s   sorting 5 cities, warmest first
        \ +\d+\.\d\d s   writing the report
        Result\ +3 lines of text, all of them seen above

        Commands\ .+
          \$ ls   \(exit code 0\)
            readings\.csv
            report\.txt
            sorted\.csv
          \$ cat report\.txt   \(exit code 0\)
            Seville   24 C
            (?:.+\n){3}.*Bergen     8 C
            mean      15[.,]6

        Done\. .+
        """,
    "run_commands": r"""
        largest: 100
        in a directory: reports
        failed: 2 disk is full
        asked not to raise: 2
        in time: so far
        """,
    "command_line": r"""
        answer: 42
        exit code 3 'building\\n' 'no such file\\n'
        assistant_message \['reading'\]
        assistant_message \['writing'\]
        result_message \['reading', 'writing'\]
        copied: True
        read back: buy milk
        exit code 124 runtimeuse-sync: Query did not end within 0\.5 s(: .*)?
        exit code 2 runtimeuse-sync: no such option.*
        doctor: name ok
        doctor: TCP ok
        doctor: proxy ok
        doctor: TLS ok
        doctor: handshake ok
        doctor: command ok
        doctor: clock ok
        """,
    "streaming": r"""
        with_callbacks:
          stdout of 'echo getting ready': getting ready
          assistant: reading
          assistant: thinking
          assistant: answering
        with_a_loop:
          countdown: 3
          countdown: 2
          countdown: 1
          result: \['3', '2', '1'\]
        commands_by_lines:
          stdout: half and half
          stderr: oops
        beside_something_else:
          assistant: ready
          did something else meanwhile: True
        """,
    "sessions": r"""
        files: \['today\.txt'\]
        today: buy milk
        commands: 'exit 3' failed with exit code 3; ran: \['true', 'exit 3'\]
        query: the script failed with exit code: 1
        query: Query did not end within 0\.2 s(: the runtime was still busy .*\nRaise timeout.*)?
        the session goes on: yes
        squares: \['0', '1', '4', '9', '16'\]
        closed: <RuntimeUseSession ws://127\.0\.0\.1:\d+ closed>
        healthy: True one
        healthy: True one
        lost: the connection to ws://127\.0\.0\.1:\d+ was lost \(query\): .+; nothing was sent
        Make the call again; .+
        answer: two
        """,
    "cancel_and_timeouts": r"""
        by_abort             CancelledException after \d+\.\d s  Query was cancelled
        by_ctrl_c            KeyboardInterrupt  after \d+\.\d s
        by_a_flag            CancelledException after \d+\.\d s  Query was cancelled by cancel_when
        by_timeout           RunTimeoutError    after \d+\.\d s  Query did not end within 0\.3 s(: .*\n.*)?
        by_idle_timeout      AgentRuntimeError  after \d+\.\d s  No message received from agent runtime for 0\.3s
        by_callback_timeout  AgentRuntimeError  after \d+\.\d s  on_assistant_message callback timed out
        the session has outlived them all
        """,
    "artifacts": r"""
        result: the report is written
        received: stock\.txt \(10 bytes\): 12 apples
        received: charts/stock\.json \(5 bytes\): \[12\]
        failed: stock\.txt: a file or directory of that name is in the way
        announced: fruit/apples\.txt
        stored: /fruit/apples\.txt \(10 bytes\): 12 apples
        """,
    "structured_output": r"""
        RepoStats\(file_count=2, char_count=12\)
        as JSON: \{"data": \{.*"file_count": 2.*\}
        refused: .*file_count.*
        """,
    "typed_output": r"""
        RepoStats\(file_count=2, char_count=12\)
        a\.txt:1 \[minor\] no line break at the end
        b\.txt:1 \[minor\] no line break at the end
        verdict: approve
        does not fit: the agent's answer does not fit Review \(2 problems\)
          findings\[0\]\.line: Field required
          findings\[0\]\.severity: Input should be 'minor' or 'major'
        """,
    "files": r"""
        read back: \['\[run\]', 'level', '=', '3'\]
        list: \[\('settings\.ini', 'file', 16\)\]
        copied: \['empty', 'latest', 'out', 'out/count\.txt', 'words\.txt'\]
        count: 6
        sent 5,000,000 of 5,000,000 bytes
        arrived: 5000000
        not found: nothing\.txt
        remove: 'job': Is a directory that is not empty; pass recursive=True to remove it
        still there: False
        """,
    "custom_agent": r"""
        assistant: reading 'to be or not to be'
        assistant: reading 'that is the question'
        result: \{'not': 1, 'that': 1, 'the': 1, 'question': 1\}
        metadata: \{'model': 'counter-1'\}
        error: there is nothing to count
        """,
    "show": r"""
        3
        2
        1
        result: \['3', '2', '1'\]
        compiling
        testing
        characters: 18
        no such target
        failed: no such target
        """,
    "many_runs": r"""
        as completed: \['1', '4'\]
        aborted: Query was cancelled
        attempt 1: small\.txt: 4
        attempt 1: large\.txt: 5000
        attempt 1: missing\.txt: AgentRuntimeError
        attempt 2: small\.txt: 4 \(from the journal\)
        attempt 2: large\.txt: 5000 \(from the journal\)
        attempt 2: missing\.txt: AgentRuntimeError
        in processes: \[True, True, True, True\]
        """,
    "tracing": r"""
        tokens
          invoke_agent: output_tokens=2
        below a span of our own
            files\.write: ok
            execute_commands: exit_codes=\(0,\)
          job: ok
        a failure
          execute_commands: exit_codes=\(0, 3\), type='CommandFailedError'
        callbacks run in the span of their call
            callback: ok
          invoke_agent: ok
        the sandbox knows the trace
            execute_commands: exit_codes=\(0,\)
          the same trace: True
          job: ok
        metrics
          gen_ai\.client\.operation\.duration in s
          gen_ai\.client\.token\.usage in \{token\}
          runtimeuse\.client\.operation\.duration in s
        """,
    "test_with_pytest": r"""
        \.{5}\ +\[100%\]
        5\ passed\ in\ .+
        """,
    "django_views": r"""
        said: \['writing the report'\]
        stored: \{'runs/1/report\.csv': '1,2\\n'\}
        another request: asked to cancel
        the waiting request: cancelled
        """,
    "flask_sse": r"""
        event: assistant
        data: \{"text_blocks":\["one"\],"text":"one"\}
        event: assistant
        data: \{"text_blocks":\["two"\],"text":"two"\}
        event: result
        data: \{"data":\{"text":"one\\ntwo\\n","type":"text"\},"metadata":\{\}\}
        running: True
        ended within 2 s: (True|False)
        """,
    "fastapi_sse": r"""
        \{"answer":"42\\n"\}
        event: assistant
        data: \{"text_blocks":\["one"\],"text":"one"\}
        event: assistant
        data: \{"text_blocks":\["two"\],"text":"two"\}
        event: result
        data: \{"data":\{"text":"one\\ntwo\\n","type":"text"\},"metadata":\{\}\}
        /events ended within 2 s: (True|False)
        /answer ended within 2 s: (True|False)
        """,
    "wsgi_view": r"""
        'echo hello': 200 hello
        'exit 3': 500 the agent failed: the script failed with exit code: 3
        'sleep 30': 504 the agent took too long
        the runtime has stopped: 502 Bad Gateway
        """,
}


#: Examples that need a framework. Whether they are quick is for tests/reliability to say: here the machine may be busy.
NEED = {"fastapi_sse": ("fastapi", "uvicorn"), "flask_sse": ("flask",)}


def test_every_example_is_tested() -> None:
    elsewhere = {
        "artifacts_s3",
        "claude_agent",
        "downloads",
        "openai_agent",
    }  # in tests/runtime/test_examples_runtime.py
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PRINTS) | elsewhere


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(*NEED.get(name, ()))) for name in sorted(PRINTS)])
def test_an_example(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    # Nothing that would be imported, or left, because of where it is run; and as plain a terminal as there is.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "ascii"}
    if not INSTALLED:
        environment["PYTEST_PLUGINS"] = "runtimeuse_sync.pytest_plugin"
    ran = subprocess.run(
        command, cwd=str(tmp_path), env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=CHILD_LIMIT
    )
    assert (ran.returncode, ran.stderr.decode()) == (0, "")
    pattern = "\n".join(line[8:] for line in PRINTS[name].strip("\n").split("\n"))
    assert re.fullmatch(pattern, ran.stdout.decode()), ran.stdout.decode()
    assert list(tmp_path.iterdir()) == [], "it cleans up after itself"


@needs("celery")
@pytest.mark.skipif(sys.version_info < (3, 13), reason="takes long: on the newest interpreter only")
def test_the_celery_application_in_one_process(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": f"{EXAMPLES}{os.pathsep}{ROOT}"}
    for name in ("REDIS_URL", "RUNTIMEUSE_WS_URL"):
        environment.pop(name, None)
    command = [sys.executable, "-W", "error", "-m", "celery_app"]
    ran = subprocess.run(
        command, cwd=str(tmp_path), env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=CHILD_LIMIT
    )
    assert (ran.returncode, ran.stderr.decode()) == (0, "")
    assert ran.stdout.decode().splitlines() == CELERY_APP_PRINTS
    assert list(tmp_path.iterdir()) == [], "it cleans up after itself"


def test_the_web_view_closes_the_errors_that_it_reads() -> None:
    """Python 3.14 says so where one is not."""
    script = textwrap.dedent(
        """
        import runpy, sys
        from urllib.error import HTTPError

        raised = []
        make = HTTPError.__init__

        def note(self, *arguments):
            make(self, *arguments)
            raised.append(self)

        HTTPError.__init__ = note
        runpy.run_path(sys.argv[1], run_name="__main__")
        print([error.closed for error in raised])
        """
    )
    command = [sys.executable, "-c", script, str(EXAMPLES / "wsgi_view.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CHILD_LIMIT, check=True)
    assert done.stdout.splitlines()[-1] == "[True, True]"
