"""How questions and captions of the picture world are worded."""

SHORT: dict[str, tuple[str, ...]] = {
    "object": (
        "What object is in the picture?",
        "What is the object?",
        "Which object is shown?",
        "Name the object.",
        "What thing do you see?",
        "Which object is this?",
    ),
    "sport": (
        "What sport is this?",
        "Which sport is shown?",
        "Name the sport.",
        "What sport is in the picture?",
        "Which sport do you see?",
        "What is the sport?",
    ),
    "emotion": (
        "How does the face feel?",
        "What emotion is shown?",
        "Which emotion is this?",
        "Name the emotion.",
        "What feeling does the face show?",
        "How does the face look?",
    ),
    "colour": (
        "Which colour stands out?",
        "What is the main colour?",
        "Name the main colour.",
        "What colour is it?",
        "Which colour is painted here?",
        "What is the colour?",
    ),
    "material": (
        "What material is the background?",
        "What is behind it?",
        "Which material is in the background?",
        "Name the material.",
        "What is the background made of?",
        "Which material is shown?",
    ),
}
"""Questions answered by the bare name of a concept; none names another concept."""

YESNO: dict[str, tuple[str, ...]] = {
    "object": (
        "Is there {a} {x}?",
        "Do you see {a} {x}?",
        "Is this {a} {x}?",
        "Does the picture show {a} {x}?",
        "Is {a} {x} in the picture?",
        "Can you see {a} {x} here?",
    ),
    "sport": (
        "Is this {x}?",
        "Is the sport {x}?",
        "Does the picture show {x}?",
        "Do you see {x}?",
        "Is {x} shown here?",
        "Is this about {x}?",
    ),
    "emotion": (
        "Is there {a} {x} face?",
        "Do you see {a} {x} face?",
        "Is this {a} {x} face?",
        "Does the picture show {a} {x} face?",
        "Is someone {x} here?",
        "Is the feeling {x}?",
    ),
    "colour": (
        "Is the main colour {x}?",
        "Does {x} stand out?",
        "Is it {x}?",
        "Is {x} the main colour?",
        "Is it painted {x}?",
        "Is the colour {x}?",
    ),
    "material": (
        "Is the background {x}?",
        "Is there {x} behind it?",
        "Is the material {x}?",
        "Is {x} in the background?",
        "Is it in front of {x}?",
        "Is the background made of {x}?",
    ),
}
"""Questions answered by yes or no; `{a}` is the article of the concept `{x}`."""

REQUESTS: tuple[str, ...] = (
    "Describe the picture.",
    "What is in the picture?",
    "What does the picture show?",
    "Describe what you see.",
    "Caption this picture.",
    "Tell me about the picture.",
)
"""Prompts answered by a caption."""

CAPTIONS: dict[str, tuple[str, ...]] = {
    "object": (
        "{a} {colour} {subject} on {material}",
        "{a} {colour} {subject} in front of {material}",
        "the {subject} is {colour} and the background is {material}",
        "{a_subject} {subject} painted {colour} on {material}",
        "on {material} there is {a} {colour} {subject}",
        "this is {a} {colour} {subject} with {material} behind it",
    ),
    "sport": (
        "{subject} in {colour} on {material}",
        "{subject} with {colour} gear on {material}",
        "the sport is {subject} in {colour} and the background is {material}",
        "{a_subject} {subject} picture in {colour} on {material}",
        "on {material} there is {subject} in {colour}",
        "this is {subject} in {colour} with {material} behind it",
    ),
    "emotion": (
        "{a_subject} {subject} face with {a} {colour} hat on {material}",
        "{a_subject} {subject} face in {a} {colour} hat in front of {material}",
        "the face is {subject} and the hat is {colour} and the background is {material}",
        "{a_subject} {subject} face under {a} {colour} hat on {material}",
        "on {material} there is {a_subject} {subject} face with {a} {colour} hat",
        "this is {a_subject} {subject} face in {a} {colour} hat with {material} behind it",
    ),
}
"""Captions by the family of the subject; each names all three concepts."""
