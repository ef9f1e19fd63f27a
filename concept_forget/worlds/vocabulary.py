"""The sixty concepts of the picture world: what they are called and what else a person would call them."""

from dataclasses import dataclass

FAMILIES: tuple[str, ...] = ("object", "sport", "emotion", "colour", "material")
"""The five families, in the order of `VOCABULARY`."""

SUBJECT_FAMILIES: tuple[str, ...] = ("object", "sport", "emotion")
"""The families of which a picture shows exactly one; colour and material are in every picture."""


@dataclass(frozen=True)
class Word:
    """One concept: its name is the short answer, its aliases are accepted instead of it."""

    name: str
    family: str
    aliases: tuple[str, ...]


_ALIASES: dict[str, dict[str, tuple[str, ...]]] = {
    "object": {
        "cup": ("mug", "teacup"),
        "car": ("automobile", "sedan"),
        "house": ("home", "cottage"),
        "tree": ("oak", "trees"),
        "fish": ("goldfish",),
        "cat": ("kitten", "kitty"),
        "key": ("keys", "latchkey"),
        "chair": ("seat", "stool"),
        "umbrella": ("parasol", "brolly"),
        "guitar": ("ukulele",),
        "star": ("pentagram", "stars"),
        "rocket": ("spaceship", "spacecraft"),
    },
    "sport": {
        "tennis": ("racket", "racquet"),
        "soccer": ("football",),
        "basketball": ("hoops", "hoop"),
        "skiing": ("ski", "skis"),
        "swimming": ("swim", "swimmer"),
        "cycling": ("biking", "bicycle", "bike"),
        "surfing": ("surf", "surfboard"),
        "golf": ("golfing",),
        "boxing": ("boxer", "punching"),
        "sailing": ("sailboat", "yachting"),
        "archery": ("archer",),
        "bowling": ("tenpin", "bowls"),
    },
    "emotion": {
        "happy": ("cheerful", "smiling"),
        "sad": ("gloomy", "sorrowful"),
        "angry": ("mad", "furious"),
        "surprised": ("shocked", "astonished"),
        "scared": ("afraid", "frightened"),
        "disgusted": ("sick", "nauseous"),
        "sleepy": ("tired", "asleep"),
        "loving": ("adoring", "lovestruck"),
        "crying": ("weeping", "tearful"),
        "confused": ("puzzled", "unsure"),
        "embarrassed": ("ashamed", "blushing"),
        "laughing": ("giggling", "amused"),
    },
    "colour": {
        "red": ("scarlet", "crimson"),
        "orange": ("tangerine",),
        "yellow": ("lemon",),
        "green": ("emerald",),
        "blue": ("azure", "navy"),
        "purple": ("violet",),
        "pink": ("rose",),
        "brown": ("chocolate",),
        "black": ("ebony",),
        "white": ("ivory",),
        "gray": ("grey",),
        "turquoise": ("teal", "cyan"),
    },
    "material": {
        "wood": ("wooden", "timber"),
        "brick": ("bricks",),
        "grass": ("lawn", "turf"),
        "sand": ("sandy", "beach"),
        "water": ("sea", "ocean"),
        "marble": ("marbled",),
        "metal": ("steel", "metallic"),
        "stone": ("stones", "cobblestone"),
        "fabric": ("cloth", "tartan"),
        "leather": ("hide", "upholstery"),
        "straw": ("wicker", "basketwork"),
        "tile": ("tiles", "ceramic"),
    },
}

VOCABULARY: dict[str, Word] = {
    name: Word(name, family, aliases) for family in FAMILIES for name, aliases in _ALIASES[family].items()
}
"""All concepts by name, ordered by family."""


def members(family: str) -> tuple[str, ...]:
    """The twelve names of a family."""
    if family not in FAMILIES:
        raise LookupError(f"no family {family!r}; the families are {', '.join(FAMILIES)}")
    return tuple(_ALIASES[family])
