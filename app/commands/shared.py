"""What every command shares: options, the progress bar, output for people or for machines, errors with exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

Model = Annotated[str, typer.Option("--model", "-m", help="Zoo name, local folder or hub id.")]
Concept = Annotated[str, typer.Option("--concept", "-c", help="A concept of the worlds (see `concepts`).")]
Forget = Annotated[
    Path | None,
    typer.Option("--forget", help="Own concept: folder of pictures, or .txt / .jsonl of texts, that have it."),
]
Retain = Annotated[Path | None, typer.Option("--retain", help="Own concept: the same, that don't have it.")]
Near = Annotated[Path | None, typer.Option("--near", help="Own concept: others of its family, the hard negatives.")]
SpecFile = Annotated[Path | None, typer.Option("--spec", help="Own concept: YAML with name, aliases and questions.")]
SiteName = Annotated[str, typer.Option("--site", help="Where, e.g. vision.3.resid; default: the model's reading site.")]
Dictionary = Annotated[
    str, typer.Option("--dictionary", help="Folder or SAELens RELEASE:ID; default: shipped, cached or trained.")
]
Concepts = Annotated[list[str] | None, typer.Option("--concept", "-c", help="Only these; repeatable.")]
Methods = Annotated[list[str] | None, typer.Option("--method", help="Only these; repeatable.")]
Prior = Annotated[
    Path | None, typer.Option("--settings", help="A bench.json on the same pool: take over the settings it chose.")
]
Questions = Annotated[int, typer.Option(help="Test questions per metric and concept.", min=1)]
Seed = Annotated[int, typer.Option("--seed", help="For every random choice.")]
Device = Annotated[
    str, typer.Option("--device", help="cpu, cuda, auto (spread); default: accelerator if there is one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
Resume = Annotated[bool, typer.Option("--resume", help="Take over what an interrupted run finished.")]

OK, FAILED, USAGE, GATE, INTERRUPTED = 0, 1, 2, 3, 130


class GateFailed(Exception):  # noqa: N818 (a verdict, not an error)
    """A number asked for with --require was not reached."""


@contextlib.contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr: one line per stage, with the time left. Gives the function that moves it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        tasks: dict[str, Any] = {}

        def move(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield move


@contextlib.contextmanager
def quiet_stdout(as_json: bool) -> Iterator[None]:
    """While the body works, anything a library prints goes to stderr: stdout is for the result alone."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def emit(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def show(*renderables: Any) -> None:
    """Tables and lines for people, on stdout."""
    from rich.console import Console

    console = Console()
    for renderable in renderables:
        console.print(renderable)


def own_data(forget: Path | None, retain: Path | None, near: Path | None, spec: Path | None) -> Any:
    """The folders of an own concept, or None. Raises ValueError where only some of them are given."""
    if forget is None and retain is None:
        if near or spec:
            raise ValueError("--near and --spec belong to a concept of one's own; give --forget and --retain too.")
        return None
    if forget is None or retain is None:
        missing = "--retain" if retain is None else "--forget"
        raise ValueError(f"A concept of one's own needs both --forget and --retain; {missing} is missing.")
    from app.opening import OwnData

    return OwnData(forget, retain, near, spec)


def require(gates: list[str], values: dict[str, float]) -> list[str]:
    """Which of the gates (`UAd>=0.9`) are not reached. Raises ValueError for one that cannot be read."""
    failed = []
    for gate in gates:
        name, found, bound = (part.strip() for part in gate.partition(">="))
        if not found or name not in values:
            raise ValueError(f"--require {gate!r}: write NAME>=NUMBER with NAME one of {', '.join(values)}.")
        try:
            least = float(bound)
        except ValueError:
            raise ValueError(f"--require {gate!r}: {bound!r} is not a number.") from None
        if not values[name] >= least:
            failed.append(f"{name} is {values[name]:.3f}, asked for at least {least:g}")
    return failed


def guarded(command: Callable[[], Any]) -> int:
    """Run a command and turn what goes wrong into a friendly paragraph on stderr and an exit code."""
    try:
        code = command()
    except _click_error() as error:
        _show_usage(error)
        return USAGE
    except (KeyboardInterrupt, typer.Abort):
        _say("Interrupted. What was finished is kept; run again with --resume to go on.", "yellow")
        return INTERRUPTED
    except GateFailed as failed:
        _say(str(failed), "yellow")
        return GATE
    except Exception as error:  # noqa: BLE001 (the last place: everything becomes a message)
        if expected(error):
            _say(str(error), "red")
            return USAGE
        _say(
            f"Something went wrong that should not: {type(error).__name__}: {error}. The traceback is in "
            f"{_log_traceback(error)}; please report it.",
            "red",
        )
        return FAILED
    return code if isinstance(code, int) else OK


def expected(error: Exception) -> bool:
    """Whether an error is about what the user gave: it has a message that says what to do."""
    if type(error) in (KeyError, IndexError, UnicodeDecodeError):
        return False
    return isinstance(error, ValueError | LookupError | OSError)


def _click_error() -> type[Exception]:
    """The base of typer's usage errors, wherever this version of typer keeps it."""
    return next(kind for kind in reversed(typer.BadParameter.__mro__) if kind.__name__ == "ClickException")


def _show_usage(error: Any) -> None:
    try:
        from typer.rich_utils import rich_format_error

        rich_format_error(error)
    except ImportError:
        error.show()


def _say(message: str, colour: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(message, style=colour))


def _log_traceback(error: BaseException) -> Path:
    handle, name = tempfile.mkstemp(prefix="concept-forget-", suffix=".log")
    with os.fdopen(handle, "w") as file:
        file.write("".join(traceback.format_exception(error)))
    return Path(name)
