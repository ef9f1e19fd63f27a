"""The file tree at the end of the README, from the first line of every file's docstring: `make tree` renews it."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- tree: written by make tree -->\n```text\n", "```\n"
TOP = ("concept_forget", "saes", "analysis", "app", "tests", "docs")
PLAIN = {
    "README.md": "this page",
    "LICENSE": "Apache-2.0",
    "Makefile": "make demo, make test, make check, make tree",
    "pyproject.toml": "packages, dependencies, tools",
    "constraints.txt": "the versions everything was measured with",
    ".ci/run": "what a change has to pass",
}
ABOUT = {
    "docs/benchmarks.md": "what an edit costs, as ratios",
    "docs/sauce60.md": "sixty concepts by nine methods, measured",
    "docs/results/sauce60.json": "every cell of it",
    "docs/images/concepts.png": "the sixty concepts, drawn",
    "docs/images/scenes.png": "chance scenes of the world",
    "docs/images/report.png": "the report of a run",
}
WIDTH = 44


def tree() -> str:
    """One line per file: its path, indented, and what it is."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    files = sorted({Path(line) for line in listed.stdout.splitlines() if (ROOT / line).is_file()})
    lines = [f"{name:<{WIDTH}}{about}" for name, about in PLAIN.items()]
    for top in TOP:
        lines += _folder(Path(top), [path for path in files if path.parts[0] == top], 0)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def readme(text: str) -> str:
    """The README with its tree renewed. Raises ValueError when it has no place for one."""
    start = text.index(BEGIN) + len(BEGIN)
    return text[:start] + tree() + text[text.index(END, start) :]


def _folder(folder: Path, files: list[Path], depth: int) -> list[str]:
    if not files:
        return []
    front = folder / "__init__.py"
    lines = [_line(f"{folder.name}/", _about(front) if front in files else "", depth)]
    if folder.name == "weights":
        return [_line("weights/", "weights, processors, dictionaries and training logs of the shipped models", depth)]
    for path in sorted(files, key=lambda path: (len(path.relative_to(folder).parts) > 1, path)):
        if path.parent == folder and path != front:
            lines.append(_line(path.name, _about(path), depth + 1))
    for below in dict.fromkeys(path.relative_to(folder).parts[0] for path in files if path.parent != folder):
        lines += _folder(folder / below, [path for path in files if path.is_relative_to(folder / below)], depth + 1)
    return lines


def _line(name: str, about: str, depth: int) -> str:
    return f"{'  ' * depth + name:<{WIDTH}}{about}"


def _about(path: Path) -> str:
    if path.suffix == ".jinja":
        found = re.match(r"\{#-?\s*(.*?)\s*-?#\}", (ROOT / path).read_text(encoding="utf-8"), re.S)
        return found[1] if found else "page template"
    if path.suffix != ".py":
        return ABOUT.get(path.as_posix(), "")
    return (ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or "").split("\n")[0]


if __name__ == "__main__":
    page = ROOT / "README.md"
    page.write_text(readme(page.read_text(encoding="utf-8")), encoding="utf-8")
