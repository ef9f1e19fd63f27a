"""Dictionaries and their features, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from app.tables.base import table_of


def feature_table(rows: Sequence[Mapping[str, float]], concept: str, site: str, score: str, stability: float) -> Table:
    """Ranked features with their mean activations."""
    table = table_of(f"Features for {concept} at {site} by {score} (stability {stability:.2f})")
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
    table = table_of(
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


def quality_tables(quality: Mapping[str, Any], site: str, features: int) -> list[Table]:
    """The quality card of a dictionary, and the concepts it was scored on."""
    card = table_of(f"Dictionary of {features} features at {site}")
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
    concepts = table_of("AUROC on held-out pictures")
    for column in ("concept", "best feature", "alone", *(f"probe on {size}" for size in sizes)):
        concepts.add_column(column, justify="left" if column == "concept" else "right")
    for name, found in quality["concepts"].items():
        probes = [f"{value:.3f}" for value in found["probes"].values()]
        concepts.add_row(name, str(found["feature"]), f"{found['auroc']:.3f}", *probes)
    return [card, concepts]
