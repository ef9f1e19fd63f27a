"""Notebooks: they run from top to bottom, and what is committed is what they are, with its outputs."""

import ast
import json
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

FOLDER = Path(__file__).parents[2] / "analysis" / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
LIMIT = 300
"""Seconds a cell may take on a busy machine."""
MOST = 1_000_000
"""Bytes of a committed notebook."""
ABSOLUTE = re.compile(r"""(?<![\w.:/<)])(?:/[\w.-]+){2,}/?(?=[\s"'\\)\],])""")
"""A path from the root of somebody's machine: two parts or more, neither an address nor a closing tag."""

by_name = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shows(cell) -> bool:
    """Whether a cell ends in an expression, which is what a reader gets to see."""
    return isinstance(ast.parse(cell.source).body[-1], ast.Expr)


def kinds(cell) -> set[str]:
    return {kind for output in cell.outputs for kind in output.get("data", {})}


def test_there_are_the_three_notebooks():
    assert {path.stem for path in SCRIPTS} == {path.stem for path in FOLDER.glob("*.ipynb")}
    assert len(SCRIPTS) == 3


@by_name
def test_the_committed_notebook_is_its_script_with_outputs(script):
    path = script.with_suffix(".ipynb")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    pairs = zip(jupytext.read(script).cells, notebook.cells, strict=True)
    assert all((a.cell_type, a.source) == (b.cell_type, b.source) for a, b in pairs)
    assert path.stat().st_size < MOST
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    # The first only makes the page quiet.
    for cell in code(notebook)[1:]:
        assert bool(kinds(cell)) == shows(cell), cell.source
        assert not [o for o in cell.outputs if o.output_type in ("error", "stream")], cell.source
    assert not ABSOLUTE.findall(path.read_text(encoding="utf-8"))


@by_name
def test_it_converts_to_a_page_with_its_pictures(script):
    body, _ = HTMLExporter().from_filename(str(script.with_suffix(".ipynb")))
    pictures = body.count("data:image/svg+xml") + body.count("data:image/png")
    assert pictures > 3
    assert "Traceback" not in body


@pytest.mark.slow
@by_name
def test_it_runs_from_top_to_bottom(script):
    notebook = jupytext.read(script)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(notebook, timeout=LIMIT, resources={"metadata": {"path": str(FOLDER)}}).execute()
    committed = code(nbformat.read(script.with_suffix(".ipynb"), as_version=4))
    for cell, before in zip(code(notebook), committed, strict=True):
        assert kinds(cell) == kinds(before), cell.source
        # The truth of the world and the model's weights are shipped: sizes do not depend on the machine.
        if "text/plain" in kinds(before) and "features of" in json.dumps(before.outputs):
            assert cell.outputs[0]["data"]["text/plain"] == before.outputs[0]["data"]["text/plain"]
