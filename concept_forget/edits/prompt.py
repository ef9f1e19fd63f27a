"""Edits that touch no activation: asking the model, and nothing at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from concept_forget.edits.base import Edit
from concept_forget.edits.parts import Parts


@dataclass(frozen=True)
class PromptEdit(Edit):
    """Puts an instruction before the user's words: the control that only asks."""

    instruction: str

    kind: ClassVar[str] = "prompt"

    def prompt(self, text: str) -> str:
        """The instruction, then the text."""
        return f"{self.instruction} {text}"

    def to_parts(self) -> Parts:
        """Settings, for a recipe."""
        return Parts({"instruction": self.instruction})

    @classmethod
    def from_parts(cls, parts: Parts) -> PromptEdit:
        """The edit that `to_parts` wrote."""
        return cls(parts.settings["instruction"])


@dataclass(frozen=True)
class NoEdit(Edit):
    """Changes nothing: the do-nothing control."""

    kind: ClassVar[str] = "none"

    def to_parts(self) -> Parts:
        """Nothing, for a recipe."""
        return Parts()

    @classmethod
    def from_parts(cls, parts: Parts) -> NoEdit:  # noqa: ARG003 (same shape as its siblings)
        """The edit that `to_parts` wrote."""
        return cls()
