"""Feature cards as HTML: one page that needs nothing else, or a piece of one for a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saes.overlay import png, shade

if TYPE_CHECKING:
    from saes.cards import FeatureCard


def page(cards: Sequence[FeatureCard], title: str = "") -> str:
    """A self-contained page with these cards."""
    head = title or (f"Feature {cards[0].feature} of {cards[0].site}" if len(cards) == 1 else "Features")
    return _template().render(cards=[_view(card) for card in cards], title=head, whole=True)


def fragment(cards: Sequence[FeatureCard]) -> str:
    """The cards as a piece of HTML that brings its own style and leaves the rest of a page alone."""
    return _template().render(cards=[_view(card) for card in cards], title="", whole=False)


def _view(card: FeatureCard) -> dict[str, Any]:
    most = max(card.counts, default=0)
    loud = max((abs(entry.change) for entry in (*card.promotes, *card.suppresses)), default=1.0) or 1.0
    return {
        "card": card,
        "title": card.title,
        "images": [
            {
                "uri": png(shown.image),
                "shade": "" if shown.heat is None else shade(shown.heat, card.peak),
                "peak": shown.peak,
                "text": " · ".join(shown.shows),
                "wide": shown.image.width / shown.image.height,
            }
            for shown in card.images
        ],
        "texts": [
            [
                (token, max(0.0, value) / (card.peak or 1.0))
                for token, value in zip(said.tokens, said.values, strict=True)
            ]
            for said in card.texts
        ],
        # On a logarithmic scale: most firings are weak, and the strong ones are the interesting ones.
        "bars": [math.log1p(count) / math.log1p(most) if most else 0.0 for count in card.counts],
        "promotes": [
            (entry.token, entry.change, abs(entry.change) / loud) for entry in card.promotes if entry.change > 0
        ],
        "suppresses": [
            (entry.token, entry.change, abs(entry.change) / loud) for entry in card.suppresses if entry.change < 0
        ],
        "concepts": [(c.concept, c.auroc, c.groups, max(0.0, 2 * c.auroc - 1)) for c in card.concepts],
    }


def _share(value: float) -> str:
    """3.1% or 0.04%: two digits, however rare."""
    percent = 100 * value
    return f"{percent:.0f}%" if percent >= 9.95 else f"{percent:.2g}%"


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["share"] = _share
    return environment.get_template("card.html.jinja")
