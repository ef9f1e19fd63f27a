"""The README is true: its file tree lists every file, its commands and Python names exist, its picture is there."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_file_tree_is_up_to_date():
    spec = importlib.util.spec_from_file_location("file_tree", ROOT / "docs" / "file_tree.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.readme(README) == README, "run `make tree`"


def test_pictures_and_linked_files_are_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert any(link.endswith(".png") for link in links)
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_python_examples_name_what_exists():
    import app.workbench

    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")
        for names in re.findall(r"from app\.workbench import (.+)", block):
            assert {name.strip(" ()") for name in names.split(",")} <= set(app.workbench.__all__)


def test_every_method_is_in_the_table():
    from app.workbench import PLUS
    from concept_forget.methods import METHODS

    for name in (PLUS, *METHODS):
        assert f"`{name}`" in README
