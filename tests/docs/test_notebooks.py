"""The notebooks run from their first cell to their last, and print what they show."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
# Of what a notebook shows.
BYTES = 20_000
SECONDS = 300


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def printed(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """What each cell that prints something has printed, by the cell's id; numbers are the machine's."""
    texts = {
        cell["id"]: "".join(output["text"] for output in cell["outputs"] if output["output_type"] == "stream")
        for cell in notebook.cells
        if cell["cell_type"] == "code"
    }
    return {name: re.sub(r"\b[\da-f]{12}\b|[\d.]+", "0", text) for name, text in texts.items() if text}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    notebook = read(path)
    assert path.stat().st_size < BYTES
    NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert printed(notebook) == printed(read(path))
