"""A random LLaVA with a random dictionary at its door: the whole path runs, and nothing it says means anything."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import app.workbench
from app import dictionaries, running
from app.cli import main
from concept_forget.directions import FeatureRows
from concept_forget.methods import Clamp
from saes import SaeDictionary


@pytest.fixture(scope="session")
def random_dictionary(tiny_llava, tmp_path_factory):
    site, features = tiny_llava.reading_site, 64
    d = tiny_llava.width(site)
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = (torch.randn(features, d, generator=generator) for _ in range(2))
    rows = FeatureRows(
        encoder, torch.zeros(features), torch.zeros(features), decoder / decoder.norm(dim=1, keepdim=True)
    )
    return SaeDictionary.from_rows(rows, torch.zeros(d), site, "random").save(tmp_path_factory.mktemp("sae"))


@pytest.fixture
def workbench(monkeypatch, tiny_llava, tmp_path, brief):  # noqa: ARG001
    """`open_model` gives the random LLaVA, methods have two settings, and the cache is a folder of the test."""
    for module in (running, dictionaries):
        monkeypatch.setattr(module, "open_model", lambda *_, **__: tiny_llava, raising=False)
    monkeypatch.setattr(Clamp, "grid", lambda self: (self, Clamp(k=4, action="zero")))
    monkeypatch.setenv(dictionaries.CACHE, str(tmp_path / "cache"))
    return tiny_llava


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str
    folder: Path


@pytest.fixture
def caller(monkeypatch, tmp_path, capsys, tiny_llava, tiny_llama) -> Callable[..., Callable[..., Ended]]:
    """A command as a user calls it, on a random model: `caller("heads", "--top", "3")` waits for the other options.

    The model named tiny-llama is the random llama; without a name it is the random llava, or `model`.
    """

    def command(*first: str, model=tiny_llava) -> Callable[..., Ended]:
        models = {"tiny-llama": tiny_llama}
        monkeypatch.setattr(app.workbench, "open_model", lambda name="", *_, **__: models.get(name, model))

        def call(*arguments: str) -> Ended:
            with pytest.raises(SystemExit) as exit_:
                main([first[0], "--out", str(tmp_path / "run"), *first[1:], *arguments])
            said = capsys.readouterr()
            return Ended(exit_.value.code, said.out, said.err, tmp_path / "run")

        return call

    return command
