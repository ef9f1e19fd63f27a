"""The command line: `concept-forget`. Light to import; every command loads what it needs when it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from app.commands import app as browser
from app.commands import (
    apply,
    audit,
    bench,
    dose,
    export,
    features,
    heads,
    listing,
    localise,
    probe,
    recipe,
    run,
    sae,
    sweep,
    trace,
    zoo,
)
from app.commands.shared import guarded

app = typer.Typer(
    name="concept-forget",
    help="Take a concept out of a vision-language or language model, and measure what is left of it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PANELS: dict[str, dict[str, Callable[..., Any] | typer.Typer]] = {
    "Begin": {"app": browser.app, "models": listing.models, "concepts": listing.concepts, "zoo": zoo.app},
    "Locate": {
        "features": features.app,
        "sae": sae.app,
        "probe": probe.probe,
        "localise": localise.localise,
        "trace": trace.trace,
        "heads": heads.heads,
    },
    "Remove": {"run": run.run, "dose": dose.dose, "sweep": sweep.sweep},
    "Prove": {"audit": audit.audit, "bench": bench.app},
    "Ship": {"recipe": recipe.app, "apply": apply.apply, "export": export.export},
}
"""The commands in the order of the work."""
for panel, commands in PANELS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)


@app.callback()
def settings() -> None:
    """Take a concept out of a vision-language or language model, and measure what is left of it."""
    # Libraries announce their loading on stderr; this program shows its own progress there.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Threads of torch wait for one another by spinning. Where another program has one of the cores they spin for most
    # of the time (docs/benchmarks.md); this is how long OpenMP itself lets them where it knows that cores are short.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 bad input, 3 a gate failed, 130 interrupted."""
    command = typer.main.get_command(app)
    sys.exit(guarded(lambda: command.main(arguments, prog_name="concept-forget", standalone_mode=False)))


if __name__ == "__main__":
    main()
