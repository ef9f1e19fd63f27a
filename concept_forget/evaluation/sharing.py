"""Many questions about one picture: the vision tower looks at it once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from concept_forget.model import HookedModel
    from concept_forget.tokens import Batch


class CannotShareError(ValueError):
    """This model does not keep one row per picture between its vision tower and its projector."""


@contextmanager
def looked_at_once(model: HookedModel, batch: Batch, pictures: Sequence[object]) -> Iterator[None]:
    """Under this context the tower and projector run once per distinct picture; rows get their picture's features.

    `pictures` says which picture each row has. Edits at vision and projector sites act once per picture, before the
    features are handed to the rows. The text side is as without. Does nothing where there is nothing to share. Raises
    CannotShareError in the body when the projector's rows are not pictures.
    """
    first: dict[object, int] = {}
    for row, picture in enumerate(pictures):
        first.setdefault(picture, row)
    pixels, tower, projector = batch.inputs.get("pixel_values"), model.anatomy.tower, model.anatomy.projector
    rows = len(pictures)
    if pixels is None or tower is None or projector is None or len(first) == rows or len(pixels) != rows:
        yield
        return
    order = {picture: place for place, picture in enumerate(first)}
    chosen = torch.tensor(list(first.values()), device=pixels.device)
    back = torch.tensor([order[picture] for picture in pictures], device=pixels.device)

    def slim(_module: nn.Module, args: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        # the engine's own note of which tiles are real has to follow, or vision edits would miss it
        if model.engine.at.tiles is not None and len(model.engine.at.tiles) == rows:
            model.engine.at = replace(model.engine.at, tiles=model.engine.at.tiles[chosen])
        return tuple(map(pick, args)), {name: pick(value) for name, value in named.items()}

    def pick(value: Any) -> Any:
        return value[chosen.to(value.device)] if isinstance(value, Tensor) and value.shape[:1] == (rows,) else value

    def widen(_module: nn.Module, _args: tuple, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or len(output) != len(chosen):
            raise CannotShareError(f"{model.name}: the rows of its projector are not pictures.")
        return output[back.to(output.device)]

    # appended, not prepended: edits at projector.out come first and see pictures, not rows
    handles = [tower.register_forward_pre_hook(slim, with_kwargs=True), projector.register_forward_hook(widen)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
