"""What people see in a real Jupyter kernel and in IPython's terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ..support.builders import Start
from ..support.packages import needs
from ..support.processes import CHILD_LIMIT

#: Runs cells in a kernel; presses the stop button once a cell that has "# stop" shows something.
DRIVER = """
import asyncio, json, sys
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

class Client(NotebookClient):
    shown = 0
    pressed = True

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] in ("display_data", "update_display_data"):
            self.shown += 1
            if not self.pressed:
                self.pressed = True
                asyncio.ensure_future(self.press())
        return super().process_message(msg, cell, cell_index)

    async def press(self):
        await self.km.interrupt_kernel()

notebook = nbformat.v4.new_notebook()
client = Client(notebook, timeout=60, kernel_name="python3", extra_arguments=["--Application.log_level=40"])
found = []
with client.setup_kernel():
    for source in json.loads(sys.argv[1]):
        cell = nbformat.v4.new_code_cell(source)
        notebook.cells.append(cell)
        client.shown, client.pressed = 0, "# stop" not in source
        try:
            client.execute_cell(cell, len(notebook.cells) - 1)
        except CellExecutionError:
            pass
        found.append({"shown": client.shown, "outputs": cell.outputs})
print(json.dumps(found))
"""

SET_UP = """
from runtimeuse_sync import RuntimeUseClient
client = RuntimeUseClient({url!r}, model="m", headers={{"X-Token": "t0ken-hidden"}})
session = client.session().open()
seen = []
MANY = "for n in $(seq 10000); do echo $n; done"
"""

LONG = """
import time
begun = time.monotonic()
_ = client.execute_commands(MANY, show=True, on_command_output=seen.append)
took = time.monotonic() - begun
"""


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the developer's settings of IPython and Jupyter out."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")


def run(cells: List[str]) -> List[Dict[str, Any]]:
    """Returns, for each cell, how often something was shown or updated, and the outputs that are left in the end."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(cells)], capture_output=True, text=True, timeout=CHILD_LIMIT
    )
    assert done.returncode == 0, done.stderr
    found: List[Dict[str, Any]] = json.loads(done.stdout)
    return found


@needs("nbclient", "ipykernel")
@pytest.mark.usefixtures("own_settings")
def test_a_kernel(start: Start) -> None:
    cells = [
        SET_UP.format(url=start().ws_url),
        "client.query('echo a; echo b', show=True)",
        LONG,
        "print(sum(message.text.count('\\n') for message in seen), took)",
        "session.query('echo started; sleep 60', show=True)  # stop",
        "session.run('echo free', timeout=30)",
        "session",
        "client.execute_commands('echo why >&2; exit 3', show=True)",
        "session.query('sleep 60', idle_timeout=1)",
    ]
    set_up, short, long, counted, stopped, free, shown, failed, late = run(cells)
    assert set_up["outputs"] == []

    display, result = short["outputs"]
    assert display["data"]["text/plain"].splitlines()[0].startswith("query: done, ")
    assert display["data"]["text/plain"].splitlines()[1:] == ["a", "b"]
    assert "a\nb</pre>" in display["data"]["text/html"]
    assert result["data"]["text/plain"] == "QueryResult (text)\na\nb"
    assert "<code>QueryResult (text)</code>" in result["data"]["text/html"]

    # One display, the rest of it folded; few updates, though they take as long as they take.
    (display,) = long["outputs"]
    assert "<details><summary><code>9,980 lines before</code></summary>" in display["data"]["text/html"]
    lines, seconds = counted["outputs"][0]["text"].split()
    assert lines == "10000"
    assert long["shown"] <= float(seconds) / 0.2 + 2

    display, error = stopped["outputs"]
    assert display["data"]["text/plain"].splitlines()[0].startswith("query: interrupted, ")
    assert error["ename"] == "KeyboardInterrupt"
    assert free["outputs"][0]["data"]["text/plain"] == "CommandResultItem\n$ echo free  [exit code 0]\nfree"
    assert "open" in shown["outputs"][0]["data"]["text/html"]
    assert "t0ken-hidden" not in json.dumps([shown, set_up])

    display, error = failed["outputs"]
    assert "failed (CommandFailedError)" in display["data"]["text/plain"]
    assert error["evalue"].splitlines()[-1] == "why"
    assert late["outputs"][0]["traceback"][-1].splitlines()[-1].startswith("Raise idle_timeout")


@needs("IPython")
@pytest.mark.usefixtures("own_settings")
def test_ipython_in_a_terminal(start: Start) -> None:
    cells = [
        *SET_UP.format(url=start().ws_url).strip().splitlines(),
        "client.query('echo a; echo b', show=True)",
        "[client.run('ls /nowhere', check=False)]",
        "session",
        "client.query('sleep 60', idle_timeout=1)",
        "session.close()",
        "exit",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"],
        input="\n".join(cells) + "\n",
        capture_output=True,
        text=True,
        timeout=CHILD_LIMIT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    assert "a\nb\nOut[6]: \nQueryResult (text)\na\nb\n" in done.stdout, done.stdout
    assert "[CommandResultItem('ls /nowhere', exit_code=2)]" in done.stdout
    assert "<RuntimeUseSession ws://127.0.0.1:" in done.stdout
    error = done.stdout.partition("AgentRuntimeError: ")[2].split("\n\n")[0].splitlines()
    assert error[0] == "No message received from agent runtime for 1s"
    assert error[1].startswith("Raise idle_timeout")
