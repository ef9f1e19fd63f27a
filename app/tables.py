"""Results as rich tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

METRICS = {
    "UAd": "says no when asked about it",
    "UAg": "leaves it out of captions",
    "IRA": "keeps the rest of its family",
    "CRA": "keeps other families",
    "COA": "keeps the rest of its pictures",
    "HM": "harmonic mean of the five",
}
OF_TEXTS = METRICS | {"UAg": "leaves the name out", "COA": "keeps others beside it"}
CONTROLS = {"prompt": "asked not to", "random_features": "random", "random_weights": "random weights"}


def metric_table(results: Mapping[str, Any]) -> Table:
    """The five metrics before and after with intervals, and the controls. Higher is better everywhere."""
    table = _table(f"{results['concept']} taken out of {results['model']} with {results['method']}")
    table.add_column("")
    table.add_column("higher is better", style="dim")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right", style="bold")
    table.add_column("95%", justify="right", style="dim")
    controls = [name for name in CONTROLS if name in results["controls"]]
    for name in controls:
        table.add_column(CONTROLS[name], justify="right", style="dim")
    meanings = OF_TEXTS if results.get("provenance", {}).get("of") == "texts" else METRICS
    for name, meaning in meanings.items():
        change = results["metrics"].get(name)
        if change:
            others = [short((results["controls"][control].get(name) or {}).get("after")) for control in controls]
            cells = short(change["before"]), short(change["after"]), ends(change["after"]), *others
            table.add_row(name, meaning, *cells, end_section=name == "COA")
    return table


def controls_note(results: Mapping[str, Any]) -> Text:
    """One line on what the probes found, and what that means."""
    probes = [probe for probe in results["probes"] if probe.get("after_retrained")]
    if not probes:
        return Text("")
    last = probes[-1]
    values = [f"{100 * last[key]['value']:.0f}%" for key in ("before", "after_frozen", "after_retrained")]
    return Text(
        f"Probe at {last['site']}: {values[0]} before, {values[1]} frozen, {values[2]} retrained after the edit "
        f'(chance {100 * last["chance"]:.0f}%). "After" means no longer accessible under these questions and probes.',
        style="dim",
    )


def concept_table(families: Mapping[str, Sequence[tuple[str, Sequence[str]]]]) -> Table:
    """Concepts by family, with aliases."""
    table = _table("Concepts of the worlds")
    for column in ("family", "concept", "also"):
        table.add_column(column, style="dim" if column == "also" else "")
    for family, words in families.items():
        for index, (name, aliases) in enumerate(words):
            last = index == len(words) - 1
            table.add_row("" if index else family, name, ", ".join(aliases), end_section=last)
    return table


def model_table(models: Sequence[Mapping[str, Any]]) -> Table:
    """The zoo: what is here, its size, its dictionaries."""
    table = _table("Models that come along")
    for column in ("name", "weights", "dictionaries"):
        table.add_column(column)
    for model in models:
        size = (
            f"{model['bytes'] / 2**20:.1f} MiB"
            if model["here"]
            else f"not here: concept-forget zoo train {model['name']}"
        )
        table.add_row(model["name"], size, ", ".join(model["dictionaries"]) or "trained when needed")
    return table


def feature_table(rows: Sequence[Mapping[str, float]], concept: str, site: str, score: str, stability: float) -> Table:
    """Ranked features with their mean activations."""
    table = _table(f"Features for {concept} at {site} by {score} (stability {stability:.2f})")
    for column in ("rank", "feature", "score", "with it", "others of its family", "without it"):
        table.add_column(column, justify="right")
    for row in rows:
        means = [f"{row[name]:.3f}" for name in ("forget_mean", "near_mean", "retain_mean")]
        rank = str(int(row["rank"])) if "rank" in row else str(len(table.rows) + 1)
        table.add_row(rank, str(int(row["index"])), f"{row['score']:.4g}", *means)
    return table


def card_table(card: Mapping[str, Any]) -> Table:
    """What a feature tells apart, makes the model say, and what is near it, side by side."""
    name = f" ({card['title']})" if card["title"] else ""
    table = _table(
        f"Feature {card['feature']}{name} at {card['site']}: fires on {card['density']:.2%} of tokens, "
        f"in {card['spread']:.0%} of {card['groups']} pictures or texts"
    )
    for column in ("tells apart", "AUROC", "makes it say", "logit", "neighbour", "cosine"):
        table.add_column(column, justify="right" if column in ("AUROC", "logit", "cosine") else "left")
    parts = (
        [(c["concept"], f"{c['auroc']:.3f}") for c in card["concepts"]],
        [(p["token"].strip(), f"{p['change']:+.2f}") for p in card["promotes"][:6]],
        [(f"#{n['feature']} {n['concept']}", f"{n['cosine']:.2f}") for n in card["neighbours"]],
    )
    for row in range(max(map(len, parts), default=0)):
        table.add_row(*(cell for part in parts for cell in (part[row] if row < len(part) else ("", ""))))
    return table


def probe_table(rows: Sequence[Mapping[str, Any]], concepts: int) -> Table:
    """Probes per site: mean over concepts, with the floors beside it."""
    table = _table(f"AUROC of linear probes on test pictures, mean over {concepts} concepts (95% interval)")
    several = len({row["kind"] for row in rows}) > 1
    parts = {"mass_mean": "means", "selectivity": "select.", "shuffled": "shuffled", "random": "random", "ece": "ECE"}
    shown = {key: name for key, name in parts.items() if any((row[key] or {}).get("value") is not None for row in rows)}
    for column in ("site", *(["tokens"] if several else []), "AUROC", *shown.values()):
        table.add_column(column, justify="left" if column in ("site", "tokens") else "right", no_wrap=True)
    for row in rows:
        auroc = row["auroc"]
        cells = ["-" if row[key].get("value") is None else f"{row[key]['value']:.3f}" for key in shown]
        interval = f"{auroc['value']:.3f} ({auroc['low']:.3f}-{auroc['high']:.3f})"
        table.add_row(row["site"], *([row["kind"]] if several else []), interval, *cells)
    return table


def probe_notes(result: Mapping[str, Any], best: Sequence[Any], enough: float = 0.95) -> list[str]:
    """Which concepts fall short at the best site, what a non-linear probe reaches there, what the model says, time."""
    weak = sorted((cell for cell in best if cell.auroc.value < enough), key=lambda cell: cell.auroc.value)
    named = result["named"]
    notes = [f"{len(best) - len(weak)} of {len(best)} above {enough:g} at {result['best']}."]
    if weak:
        said = {name: f", named {found['right']:.0%} of {found['n']}" for name, found in named.items()}
        notes.append("Below: " + "; ".join(f"{c.concept} {c.auroc}{said.get(c.concept, '')}" for c in weak) + ".")
    if named:
        least = min(named, key=lambda name: named[name]["right"])
        notes.append(
            f"The model names {sum(found['right'] for found in named.values()) / len(named):.1%} of what is shown, "
            f"{least} least ({named[least]['right']:.0%})."
        )
    if result["mlp"]:
        notes.append(f"An MLP there reaches {result['mlp']['auroc']['value']:.3f} on average.")
    time = result["seconds"]
    notes.append(
        f"{result['pictures']} pictures read in {time['reading']:.0f} s, {len(result['cells'])} cells probed in "
        f"{time['probing']:.0f} s ({time['processor']:.0f} s of processor time in all)."
    )
    return notes


def head_table(result: Mapping[str, Any]) -> Table:
    """The heads the answers lose most without, and what the strongest of them look at."""
    table = _table(
        f"Heads of {result['model']}: log p(answer) lost without each, mean over {result['prompts']} prompts"
    )
    for column in ("head", "nats lost", "95% interval", "looks at picture", "strongest keys"):
        table.add_column(column, justify="left" if column in ("head", "strongest keys") else "right")
    for head in result["top"]:
        seen = result["looks"].get(f"{head['layer']}.{head['head']}")
        share = f"{seen['shares']['image']:.0%}" if seen else ""
        keys = ", ".join(key.strip() or "␣" for key in seen["keys"]) if seen else ""
        bounds = "" if head["low"] is None else f"{head['low']:.2f} to {head['high']:.2f}"
        table.add_row(f"{head['layer']}.{head['head']}", f"{head['effect']:.3f}", bounds, share, Text(keys))
    return table


def localisation_table(result: Mapping[str, Any]) -> Table:
    """How well each instrument hits the true masks, and what an edit at its place does, mean over concepts."""
    count = len(result["concepts"])
    table = _table(f"Where {count} concept{'s are' if count > 1 else ' is'} at {result['site']}: maps against masks")
    for column in ("instrument", "AUROC", "IoU", "there", "random", "mask", "gap"):
        table.add_column(column, justify="left" if column == "instrument" else "right", no_wrap=True)
    for name, row in result["summary"].items():
        cells = []
        for key in ("auroc", "iou", "located", "random", "truth", "gap"):
            value = row.get(key)
            wide = key in ("auroc", "gap") and value and value["low"] is not None
            cells.append(
                "-" if not value or value["value"] is None
                else f"{value['value']:.2f} ({value['low']:.2f}-{value['high']:.2f})" if wide
                else f"{value['value']:.2f}"
            )  # fmt: skip
        table.add_row(name, *cells)
    return table


def quality_tables(quality: Mapping[str, Any], site: str, features: int) -> list[Table]:
    """The quality card of a dictionary, and the concepts it was scored on."""
    card = _table(f"Dictionary of {features} features at {site}")
    card.add_column("")
    card.add_column("", justify="right")
    for key, label, form in (
        ("explained_variance", "explained variance", ".3f"),
        ("l0", "features per token (L0)", ".1f"),
        ("cosine", "cosine of x and its reconstruction", ".3f"),
        ("loss_recovered", "loss recovered", ".3f"),
        ("dead", "dead features", ".1%"),
        ("dense", "dense features", ".1%"),
        ("tokens", "tokens", ",d"),
    ):
        if quality.get(key) is not None:
            card.add_row(label, format(quality[key], form))
    if not quality["concepts"]:
        return [card]
    sizes = list(next(iter(quality["concepts"].values()))["probes"])
    concepts = _table("AUROC on held-out pictures")
    for column in ("concept", "best feature", "alone", *(f"probe on {size}" for size in sizes)):
        concepts.add_column(column, justify="left" if column == "concept" else "right")
    for name, found in quality["concepts"].items():
        probes = [f"{value:.3f}" for value in found["probes"].values()]
        concepts.add_row(name, str(found["feature"]), f"{found['auroc']:.3f}", *probes)
    return [card, concepts]


def bench_table(summary: Mapping[str, Any]) -> Table:
    """Means over concepts per method, with intervals for the harmonic mean and the difference to SAUCE mode."""
    table = _table(f"{summary['concepts']} concepts on {summary['model']}: mean over concepts, 95% intervals")
    for column in ("method", "UAd", "UAg", "IRA", "CRA", "COA", "HM", "HM - sauce"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, row in summary["methods"].items():
        overall = row["all"]
        cells = [short(overall[name]) for name in ("UAd", "UAg", "IRA", "CRA", "COA")]
        table.add_row(method, *cells, full(overall["HM"]), signed(overall.get("to_sauce")))
    return table


def short(value: Mapping[str, Any] | None) -> str:
    """98.2%"""
    return "-" if not value or value.get("value") is None else f"{100 * value['value']:.1f}%"


def ends(value: Mapping[str, Any] | None) -> str:
    """97 to 99"""
    return "" if not value or value.get("low") is None else f"{100 * value['low']:.0f} to {100 * value['high']:.0f}"


def full(value: Mapping[str, Any] | None) -> str:
    """98.2% (97.0 to 99.1)"""
    if not value or value.get("value") is None:
        return "-"
    return f"{short(value)} ({100 * value['low']:.1f} to {100 * value['high']:.1f})"


def signed(value: Mapping[str, Any] | None) -> str:
    """+12.1 (+9.8 to +14.0), in points."""
    if not value or value.get("value") is None:
        return ""
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * value[key] for key in ("value", "low", "high")))


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)


def recipe_tables(about: Mapping[str, Any]) -> list[Any]:
    """What is in a recipe."""
    top = _table(f"Recipe: {about['concept']} out of {about['model']}")
    top.add_column("")
    top.add_column("")
    pinned = f"{about['pinned']} sampled tensors" if about["pinned"] else "not pinned (made by an old version)"
    made = ", ".join(f"{name} {value}" for name, value in about["settings"].items())
    rows = {"revision": about["revision"] or "none", "weights": pinned}
    rows |= {"digest": about["digest"][:16], "made with": made}
    for name, value in (*rows.items(), *((name, f"{size:,} bytes") for name, size in about["bytes"].items())):
        top.add_row(name, str(value))
    table = _table("Edits")
    for column in ("kind", "site", "settings", "gate"):
        table.add_column(column)
    for edit in about["edits"]:
        cells = (edit["kind"], edit["site"] or "everywhere", edit["settings"], edit["gate"] or "none")
        table.add_row(*(_listed(cell) if isinstance(cell, dict) else cell for cell in cells))
    told = [edit["gives_away"] for edit in about["edits"] if edit["gives_away"]]
    warning = f"This recipe holds {', '.join(told)}, in plain text: keep it as you would keep the forget set."
    return [top, table, *([Text(warning, style="yellow")] if told else [])]


def plan_table(about: Mapping[str, Any]) -> Table:
    """What a batch job will need."""
    table = _table("Plan (nothing was asked)")
    table.add_column("")
    table.add_column("", justify="right")
    gib = 1 << 30
    memory = ("weights", "cache", "activations", "memory", "free")
    for name in ("items", "batches", "batch_size", "longest"):
        table.add_row(name.replace("_", " "), f"{about[name]:,}", end_section=name == "longest")
    for name in memory:
        table.add_row(f"{name} (GiB)", f"{about[name] / gib:.2f}", end_section=name == "free")
    table.add_row("fits", "yes" if about["fits"] else "NO: smaller --batch-size, --quantize, or --device auto")
    table.add_row("time, estimated", _duration(about["seconds"]))
    return table


def applied_lines(about: Mapping[str, Any]) -> list[str]:
    """What a batch job did."""
    lines = [f"Asked {about['items']:,} items in {_duration(about['seconds'])} ({about['rate']:.2f} a second)."]
    if about["resumed"]:
        lines.append(f"{about['resumed']} batches were taken over from before.")
    lines.append(f"The recipes changed {about['changed']:,} answers.")
    if about["failed"]:
        lines.append(f"[yellow]{about['failed']:,} items could not be asked; column error says why.[/yellow]")
    return [*lines, f"Answers: [bold]{about['folder']}/answers.parquet[/bold]"]


def export_lines(about: Mapping[str, Any]) -> list[str]:
    """What became of a recipe."""
    colour = {"exact": "green", "approximate": "yellow", "hook only": "red"}[about["badge"]]
    lines = [f"Badge: [bold {colour}]{about['badge']}[/bold {colour}]"]
    if about["error"] is not None:
        lines.append(f"Largest logit difference from the hooked model {about['error']:.3g}, KL {about['kl']:.3g} nats.")
    if about["reason"]:
        lines.append(about["reason"])
    for name, row in about["numbers"].get("metrics", {}).items():
        values = (f"{key} {short(row[key])}" for key in ("untouched", "hooked", "exported"))
        lines.append(f"  {name}: {', '.join(values)}")
    return [*lines, f"Folder: [bold]{about['folder']}[/bold] (README.md, export.json)"]


def _duration(seconds: float) -> str:
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s" if minutes else f"{seconds:.1f} s"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_brief(value)}" for name, value in values.items())


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def dose_table(result: Mapping[str, Any]) -> Table:
    """The metrics at every strength on validation, and the chosen strength on test."""
    table = _table(f"{result['concept']} in {result['model']}: strength of {result['method']['method']}, validation")
    for column in ("strength", *METRICS):
        table.add_column(column, justify="right")
    for row in result["validation"]:
        chosen = row["strength"] == result["strength"]
        last = row is result["validation"][-1]
        cells = [short(row[name]) for name in METRICS]
        table.add_row(f"{row['strength']:g}", *cells, style="bold" if chosen else "", end_section=last)
    table.add_row("test", *(short(result["test"][name]["after"]) for name in METRICS), style="bold")
    return table


def removal_table(result: Mapping[str, Any]) -> Table:
    """Means over concepts per method: the five metrics, leakage, what probes still read, false fires, speed."""
    table = _table(f"{result['scored']} of {result['concepts']} concepts on {result['model']}: mean over concepts")
    columns = ("UAd", "UAg", "IRA", "CRA", "COA", "leak", "AUROC activation", "AUROC residual", "false fires")
    for column in ("method", *columns, "ms/token"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method, row in result["methods"].items():
        speed = "-" if not row.get("ms") or row["ms"]["value"] is None else f"{row['ms']['value']:.1f}"
        table.add_row(method, *(short(row.get(name)) for name in columns), speed)
    return table


def many_table(result: Mapping[str, Any]) -> Table:
    """Means over the measured concepts per method and number removed at once, and milliseconds per token."""
    table = _table(f"{len(result['measured'])} concepts on {result['model']}, removed among others: mean over concepts")
    columns = ("UAd", "UAg", "IRA", "CRA", "COA")
    for column in ("method", "at once", *columns, "pairs in conflict", "ms/token", "one by one", "bare"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method in result["methods"]:
        for count, entry in result["many"].items():
            row = entry["methods"][method]
            ms = [f"{row['ms'][name]:.1f}" for name in ("together", "one by one", "bare")]
            cells = [short(row["metrics"][name]) for name in columns]
            table.add_row(method, count, *cells, str(row["pairs in conflict"]), *ms)
    return table
