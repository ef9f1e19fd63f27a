"""How every concept looks."""

from concept_forget.worlds.drawings.colours import COLOURS, varied
from concept_forget.worlds.drawings.faces import FACES
from concept_forget.worlds.drawings.objects import OBJECTS
from concept_forget.worlds.drawings.pen import JITTER, SIDE, Drawing, Pen, Sprite
from concept_forget.worlds.drawings.sports import SPORTS
from concept_forget.worlds.drawings.textures import SHEET, TEXTURES, sheet

SUBJECTS: dict[str, Drawing] = {**OBJECTS, **SPORTS, **FACES}

__all__ = ["COLOURS", "JITTER", "SHEET", "SIDE", "SUBJECTS", "TEXTURES", "Drawing", "Pen", "Sprite", "sheet", "varied"]
