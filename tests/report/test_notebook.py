"""The notebook runs from top to bottom, and shows tables and figures."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "pareto.ipynb"


def test_notebook_runs():
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": "."}}
    ).execute()
    shown = [set(output.get("data", {})) for cell in notebook.cells if cell.cell_type == "code"
             for output in cell.outputs]  # fmt: skip
    assert sum("text/html" in kinds for kinds in shown) >= 5
    assert sum("image/png" in kinds for kinds in shown) >= 2
    assert sum("text/html" in kinds and "text/plain" in kinds for kinds in shown) >= 5
