"""Contact sheets: many pictures on one page, with their names."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from concept_forget.worlds.drawings import SIDE
from concept_forget.worlds.scene import Scene, SceneSpec
from concept_forget.worlds.splits import sample
from concept_forget.worlds.vocabulary import SUBJECT_FAMILIES, VOCABULARY, members

_LINE = 13
_GAP = 4


def contact_sheet(pictures: Sequence[Image.Image], captions: Sequence[str], columns: int) -> Image.Image:
    """The pictures in rows, each with its caption below."""
    rows = -(-len(pictures) // columns)
    lines = 1 + max(caption.count("\n") for caption in captions)
    wide, high = SIDE + _GAP, SIDE + lines * _LINE + _GAP
    page = Image.new("RGB", (columns * wide + _GAP, rows * high + _GAP), "white")
    pen = ImageDraw.Draw(page)
    for i, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = _GAP + i % columns * wide, _GAP + i // columns * high
        page.paste(picture, (x, y))
        pen.text((x + SIDE / 2, y + SIDE + 1), caption, fill="black", anchor="ma", align="center", spacing=1)
    return page


def concept_sheet() -> Image.Image:
    """One picture for each of the sixty concepts, a row for each family."""
    pictures = [_portrait(i, name) for i, name in enumerate(VOCABULARY)]
    return contact_sheet(pictures, list(VOCABULARY), columns=12)


def scene_sheet(n: int = 24, seed: int = 0) -> Image.Image:
    """`n` chance scenes of the training split."""
    scenes = sample("train", n, seed)
    captions = [f"{s.spec.subject}\n{s.spec.colour} {s.spec.material}" for s in scenes]
    return contact_sheet([s.image for s in scenes], captions, columns=8)


def _portrait(i: int, name: str) -> Image.Image:
    """A picture that shows the concept."""
    family = VOCABULARY[name].family
    colours, materials = members("colour"), members("material")
    subject = name if family in SUBJECT_FAMILIES else members("object")[i % 12]
    colour = name if family == "colour" else colours[(5 * i + i // 12) % 12]
    material = name if family == "material" else materials[(7 * i + i // 12) % 12]
    return Scene(SceneSpec(subject, colour, material, seed=i)).image
