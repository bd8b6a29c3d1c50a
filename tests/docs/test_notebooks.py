"""The notebooks run with small budgets, and what is committed is what a whole run printed, and small."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
BUDGETS = {
  "images": "updates, k, test_examples = 4, 2, 20",
  "text": 'settings = {"preset": "tiny", "k": 2, "max_steps": 2, "iw_samples": 2}',
}
MOST_BYTES = 300_000

needs_jupyter = pytest.mark.skipif(
  not all(importlib.util.find_spec(name) for name in ("nbclient", "nbformat", "ipykernel")),
  reason="the packages of the extra dev are not installed",
)


@needs_jupyter
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed_and_small(path):
  import nbformat

  assert path.stat().st_size < MOST_BYTES
  notebook = nbformat.read(path, 4)
  code = [cell for cell in notebook.cells if cell.cell_type == "code"]
  counts = [cell.execution_count for cell in code]
  assert counts == list(range(1, len(code) + 1)), "run the notebook from its beginning"
  outputs = [output for cell in code for output in cell.outputs]
  assert outputs and not any(output.output_type == "error" for output in outputs)
  assert not any(output.get("name") == "stderr" for output in outputs)


@needs_jupyter
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
  import nbformat
  from nbclient import NotebookClient

  notebook = nbformat.read(path, 4)
  (budget,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
  budget.source = BUDGETS[path.stem]
  monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
  client = NotebookClient(
    notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
  )
  client.execute()
