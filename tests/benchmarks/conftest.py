"""Ratios against a named peer, measured in pairs; and a LLaVA of the 7B widths. Only run when asked for by path."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from concept_forget.model import HookedModel

HERE = Path(__file__).parent
PIXELS, PATCH, VOCABULARY = 336, 14, 32064


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=16, help="How often each benchmark is timed (at least 2).")


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Minutes of work that prove nothing about correctness: only for `pytest tests/benchmarks`."""
    asked = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    return None if any(path == HERE or HERE in path.parents for path in asked) else True


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The processor time of one thread is its wall time on an idle machine, whatever else runs meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


@pytest.fixture
def paired(capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config) -> Callable[..., None]:
    """paired({name: ours, ...}, peer, aim): times all in turn; a line each with the median ratio of the rounds.

    "at most a" is about ours / peer, "at least a" about peer / ours. Nothing is asserted about time.
    """

    rounds = pytestconfig.getoption("--rounds")

    def measure(ours: dict[str, Callable[[], object]], peer: Callable[[], object], aim: str) -> None:
        works = {**ours, "": peer}
        for work in works.values():
            work()
        times: dict[str, list[float]] = {name: [] for name in works}
        for number in range(rounds):
            # Every other round runs backwards, so that a drift of the machine favours nobody.
            for name in list(works)[:: 1 if number % 2 == 0 else -1]:
                times[name].append(_seconds(works[name]))
        for name in ours:
            pairs = zip(times[name], times[""], strict=True)
            ratios = [b / a if aim.startswith("at least") else a / b for a, b in pairs]
            low, middle, high = statistics.quantiles(ratios, n=4)
            own, other = statistics.median(times[name]), statistics.median(times[""])
            line = f"{name}: ours {own:.4g} s, peer {other:.4g} s, ratio {middle:.4g}"
            with capsys.disabled():
                sys.stdout.write(f"\n{line} (quartiles {low:.4g} to {high:.4g}, {rounds} rounds), aim {aim}\n")

    return measure


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.fixture(scope="session")
def wide_llava(tiny_llava: HookedModel) -> HookedModel:
    """LLaVA-1.5-7B as wide as it is (1024 and 4096, 576 patches), 4 vision and 2 text layers deep; 1.4 GB of bfloat16.

    Fewer layers make the edit a larger part of the whole, so the real model's ratios are closer to 1.
    """
    words = tiny_llava.tokenizer
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=4,
        num_attention_heads=16,
        image_size=PIXELS,
        patch_size=PATCH,
        projection_dim=768,
    )
    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=2,
        num_attention_heads=32,
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        image_seq_length=(PIXELS // PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration._from_config(config, dtype=torch.bfloat16)
    # The small tokenizer has words for the first ids only; generation keeps to them and never ends early.
    model.lm_head.weight.data[len(words) :] = 0
    model.generation_config.eos_token_id = None
    size = {"height": PIXELS, "width": PIXELS}
    processor = LlavaProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": PIXELS}, crop_size=size),
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=words.chat_template,
    )
    return HookedModel(model, processor, "random LLaVA of the 7B widths")
