"""Wall time of a trace against a straightforward ROME-style loop on the same model, cells and machine, in one run.

Run it by path: `python -m pytest -s tests/benchmarks/test_trace.py`. The loop is a forward pass of 1 clean + 10 noise
rows a cell, as in ROME. It is timed on evenly spread cells and scaled by their number (all cells cost it the same); our
traces are whole. PROMPTS, NOISE_PROMPTS (noise is slow: fewer of them) and CELLS in the environment change the sizes.
"""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import ExitStack

import numpy as np
import pytest
import torch

from analysis.tracing import Case, GaussianNoise, MinimalPair, TokenReplacement, scene_case, trace
from analysis.tracing.words import token_positions
from concept_forget.model import HookedModel
from concept_forget.sites import Site
from concept_forget.worlds import sample

PROMPTS = int(os.environ.get("PROMPTS", 32))
NOISE_PROMPTS = int(os.environ.get("NOISE_PROMPTS", 2))
CELLS = int(os.environ.get("CELLS", 24))
STREAMS = ("resid", "attn", "mlp")
SAMPLES = 10


class Clock:
    """Wall and processor seconds: on a shared machine the second is the fairer one."""

    def __enter__(self):
        self.start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall, self.cpu = time.perf_counter() - self.start[0], time.process_time() - self.start[1]


def rome(model: HookedModel, case: Case, noise: GaussianNoise, cells, whole: bool):
    """log p(answer) regained at (stream, layer, position) cells: ROME's loop, 1 + 10 rows a cell, nothing shared.

    `whole` runs the picture's tower for every cell too; otherwise its output is computed once and handed over.
    """
    batch = model.prepare([case.prompt] * (1 + SAMPLES), [case.image] * (1 + SAMPLES))
    where = batch.tokens.image_mask[0].nonzero()[:, 0]
    if noise.on == "words":
        where = token_positions(model, model.prepare([case.prompt], [case.image]), case.prompt, case.subject)
    door = Site("projector", None, "out")
    features = model.run(batch, read=[door], logits=None).activations[door]
    draws = np.random.RandomState(1).randn(SAMPLES, len(where), model.anatomy.text_width)
    ids = batch.inputs["input_ids"]
    embeddings = model.model.get_input_embeddings()(ids).detach().clone()
    embeddings[batch.tokens.image_mask] = features.flatten(0, 1)
    embeddings[1:, where] += torch.from_numpy(draws).float() * noise.scale
    decoder, head = model.model.get_decoder(), model.model.get_output_embeddings()

    def forward():
        if whole:
            with ExitStack() as stack:
                module = model.model.get_decoder()
                stack.callback(
                    module.register_forward_pre_hook(
                        lambda _m, a, k: (a, {**k, "inputs_embeds": embeddings}), with_kwargs=True
                    ).remove
                )
                return model.model(**batch.inputs, use_cache=False).logits[:, -1]
        return head(decoder(inputs_embeds=embeddings, attention_mask=batch.inputs["attention_mask"]).last_hidden_state)[
            :, -1
        ]

    def scores(logits):
        logs = logits.log_softmax(-1)
        return logs[1:, int(logs[0].argmax())].mean()

    found = []
    with torch.no_grad():
        low = scores(forward())
        for stream, layer, position in cells:

            def restore(_module, _args, result, position=position):
                x = result if isinstance(result, torch.Tensor) else result[0]
                x[1:, position] = x[0, position]
                return result

            handle = model.module(Site("text", layer, stream))[0].register_forward_hook(restore)
            found.append(float(scores(forward()) - low))
            handle.remove()
    return found


def cases(count: int, ask: str) -> list[Case]:
    """Questions about the colour in chance scenes; more than `count`, to choose from."""
    return [scene_case(scene, scene.spec.colour, ask=ask) for scene in sample("test", 3 * count, 0)]


@pytest.mark.slow
def test_trace_beats_the_loop_of_a_forward_pass_per_cell(capsys):
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    model = HookedModel.load("tiny-llava", device="cpu")
    words = [case for case in cases(PROMPTS, "yesno") if same_length(model, case)][:PROMPTS]
    pictures = cases(PROMPTS, "short")[:PROMPTS]
    bare = [Case(case.prompt, case.answer, case.image) for case in pictures]
    named = [Case(case.prompt, case.answer, case.image, case.subject) for case in words]
    rows, loops = [], {}
    for label, given, corruption in (
        ("words replaced", words, TokenReplacement()),
        ("minimal pair", pictures, MinimalPair()),
        ("noise on words", named[:NOISE_PROMPTS], GaussianNoise(samples=SAMPLES)),
        ("noise on picture", bare[:NOISE_PROMPTS], GaussianNoise(on="image", samples=SAMPLES)),
    ):
        corruption = corruption.fitted(model, given)
        with Clock() as ours:
            found = trace(model, given, corruption, streams=STREAMS)
        traced = len(found.prompts)
        noise = corruption if isinstance(corruption, GaussianNoise) else GaussianNoise(on="image", scale=1.0)
        index = next(i for i, case in enumerate(given) if case.group == found.prompts[0].group)
        effects = found.prompts[0].effects
        grid = [(s, layer, p) for s in range(3) for layer in range(effects.shape[1]) for p in range(effects.shape[2])]
        random.Random(1).shuffle(grid)
        alive = [cell for cell in grid if effects[cell] != 0]
        chosen = alive[: CELLS // 2] + grid[: CELLS // 2]
        asked = [(STREAMS[s], layer, p) for s, layer, p in chosen]
        same = None
        for whole in (True, False):
            # Cells cost the same whatever the noise, so replacement and pictures share the loop's time.
            key = (whole, effects.shape[2])
            if isinstance(corruption, GaussianNoise) or key not in loops:
                with Clock() as slow:
                    values = rome(model, given[index], noise, asked, whole)
                loops[key] = slow.wall / (len(asked) + 1), slow.cpu / (len(asked) + 1)
                if isinstance(corruption, GaussianNoise):
                    same = max(abs(v - float(effects[c])) for v, c in zip(values, chosen, strict=True))
                    assert same < 1e-3, (label, same)
            wall, cpu = (each * (len(grid) + 1) for each in loops[key])
            rows.append(
                (label, "whole model" if whole else "decoder only", traced, ours.wall / traced, wall, ours.cpu / traced,
                 cpu, found.cost.rows / traced, found.cost.work / traced, (len(grid) + 1) * (1 + SAMPLES), same)
            )  # fmt: skip
    with capsys.disabled():
        sys.stdout.write(f"\n{report(rows)}\n")
    best = {(row[0], row[1]): row[6] / row[5] for row in rows}
    assert best["words replaced", "whole model"] > 10 and best["minimal pair", "whole model"] > 10
    assert best["noise on picture", "whole model"] > 2.5


def same_length(model: HookedModel, case: Case) -> bool:
    """Whether the concept can be replaced token by token."""
    words = (case.subject, case.replacement)
    return len({len(model.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) for word in words}) == 1


def report(rows) -> str:
    """The table of both sides."""
    head = ("wall s", "loop s", "ratio", "cpu s", "loop", "ratio", "rows", "work", "loop rows", "max diff")
    lines = [
        f"tiny-llava, text tower, full grid x {', '.join(STREAMS)}; everything per prompt; the loop runs 1 + {SAMPLES} "
        f"rows a cell, timed on {CELLS} cells and scaled to the grid",
        ("{:<17}{:<14}{:>8}" + "{:>10}" * 10).format("corruption", "loop runs", "prompts", *head),
    ]
    for label, kind, n, wall, slow, cpu, slow_cpu, count, work, loop, same in rows:
        numbers = (f"{wall:.2f}", f"{slow:.1f}", f"{slow / wall:.1f}x", f"{cpu:.2f}", f"{slow_cpu:.1f}")
        counts = (f"{slow_cpu / cpu:.1f}x", f"{count:.0f}", f"{work:.0f}", loop, "" if same is None else f"{same:.0e}")
        lines.append(f"{label:<17}{kind:<14}{n:>8}" + "".join(f"{value:>10}" for value in (*numbers, *counts)))
    return "\n".join(lines)
