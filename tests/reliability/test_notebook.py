"""A real Jupyter kernel: the notebook of `examples/` runs as it is; an interrupt ends only the cell that it hits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ..support.packages import needs
from ..support.tally import SEED, Tally, tries
from . import children

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebook.ipynb"

DRIVER = """
import asyncio, json, random, sys
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

path, directory, count, rnd = sys.argv[1], sys.argv[2], int(sys.argv[3]), random.Random(sys.argv[4])

class Impatient(NotebookClient):
    \"\"\"Interrupts the kernel, as the button does, a while after a cell has printed "working".\"\"\"

    longest = 0.0

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream" and "working" in msg["content"]["text"]:
            asyncio.ensure_future(self.interrupt(self.longest * rnd.random()))
        return super().process_message(msg, cell, cell_index)

    async def interrupt(self, delay):
        await asyncio.sleep(delay)
        await self.km.interrupt_kernel()

notebook = nbformat.read(path, as_version=4)
nbformat.validate(notebook)
cells = list(notebook.cells)
last = cells.pop()
notebook.cells = []
client = Impatient(
    notebook,
    timeout=40,
    kernel_name="python3",
    # Errors only: it warns of its unencrypted connection.
    extra_arguments=["--Application.log_level=40"],
    resources={"metadata": {"path": directory}},
)
asked = []

def run(cell):
    notebook.cells.append(cell)
    try:
        client.execute_cell(cell, len(notebook.cells) - 1)
    except CellExecutionError as error:
        asked.append(error.ename)

def code(source):
    cell = nbformat.v4.new_code_cell(source)
    run(cell)
    # A kernel may send what is printed in several pieces.
    printed = "".join(output["text"] for output in cell.outputs if output["output_type"] == "stream")
    return [printed, *(output["ename"] for output in cell.outputs if output["output_type"] == "error")]

with client.setup_kernel():
    for cell in cells:
        run(cell)
    client.longest = 0.05
    interrupted = []
    for number in range(count):
        # One-shots and calls on the session, that are told nothing of interrupts.
        owner = random.Random(number).choice(["client", "session"])
        hit = code(f"print('working', flush=True); {owner}.query('sleep 60', timeout=30)")
        interrupted.append([hit, code(f"print({owner}.query('echo {number}', timeout=30).text, end='')")])
    run(last)
print(json.dumps([[cell.get("outputs") for cell in notebook.cells if cell in [*cells, last]], interrupted]))
"""


def shown(outputs: List[Dict[str, Any]]) -> List[str]:
    """Returns what a reader sees of a cell's outputs, however they were cut."""
    printed = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
    return [printed, *(output["data"]["text/plain"] for output in outputs if output["output_type"] != "stream")]


@needs("nbclient", "ipykernel")
def test_the_notebook_in_a_kernel(tally: Tally, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = "worlds: a Jupyter kernel is interrupted in a call"
    count = tries(4, 100)
    tally.tried(fault, count + 1)
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    (tmp_path / "work").mkdir()
    printed = children.run(
        DRIVER, str(NOTEBOOK), str(tmp_path / "work"), str(count), f"{SEED}/{fault}", strict=False, patience=600
    )
    outputs, interrupted = json.loads(printed)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    # What stands in the notebook, where its reader sees it, is what it prints.
    assert [shown(each) for each in outputs if each is not None] == [shown(cell["outputs"]) for cell in cells]
    assert interrupted == [[["working\n", "KeyboardInterrupt"], [f"{number}\n"]] for number in range(count)]
    assert list((tmp_path / "work").iterdir()) == [], "it cleans up after itself"
    tally.survived(fault, count + 1)
