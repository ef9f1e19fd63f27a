# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Trace and probe a concept
#
# Four instruments look for one concept in `tiny-llava`:
#
# - **tracing** swaps the concept for another in the picture and asks which activations bring the old answer back: what
#   the model *uses*;
# - **heads** are taken out one by one: which of them carry the answer;
# - the **lens** reads every patch as if it were the model's last word: what each place *says*;
# - **probes** are trained on every layer: what can be *read* there, used or not.

# %%
import warnings

# No progress bars on this page.
warnings.filterwarnings("ignore", message="IProgress not found")

# %%
import pandas as pd
from transformers.utils import logging

from analysis import svg
from analysis.heads import Heads
from analysis.lens import lens
from analysis.sweep import read, sweep
from analysis.tracing import MinimalPair, trace, world_cases
from concept_forget.model import HookedModel

CONCEPT = "star"
logging.disable_progress_bar()
model = HookedModel.load("tiny-llava")
cases = world_cases(CONCEPT, 3, seed=3)
shown = []
for case in cases[:2]:
    shown += [(case.image, None, case.answer), (case.counterpart, None, case.foil)]
svg.pictures(shown, "Each picture and its minimal pair: the same scene, that one concept swapped")

# %% [markdown]
# ## What the model uses
#
# Every cell puts the clean activation of one layer and position into the run on the swapped picture. Blue: this brings
# the answer back (log p of the answer against the swapped one). One column per token group, mean over pictures.

# %%
traced = trace(model, cases, MinimalPair(), streams=("resid",), by="group")
layers = [f"layer {layer}" for layer in range(traced.values.shape[1])]
svg.heat_map(traced.values[0], layers, traced.positions, f"{CONCEPT}: effect of the residual stream, text tower")

# %%
pd.DataFrame(traced.top(5)).round(2)

# %% [markdown]
# ## Which heads carry it
#
# How much log p(answer) falls when one head is taken out (its output replaced by its mean).

# %%
heads = Heads(model)
effects = heads.effects(cases, "mean")
names = [f"head {head}" for head in range(heads.heads)]
svg.heat_map(
    effects.values, [f"layer {i}" for i in range(len(effects.values))], names, "log p(answer) lost without a head"
)

# %% [markdown]
# Where the three most important heads look when the model is about to answer:

# %%
seen = heads.patterns(cases[0].prompt, cases[0].image, queries="last")
looks = [(cases[0].image, None, "picture")]
for place in effects.top(3):
    caption = f"layer {place.layer}, head {place.head}"
    looks.append((cases[0].image, seen.on_picture()[place.layer, place.head, 0], caption))
svg.pictures(looks, "Attention from the last position to the picture")

# %% [markdown]
# ## What each place says
#
# Probability of the concept's word at every patch, layer by layer, read through the model's own output layer.

# %%
said = lens(model, cases[0].prompt, cases[0].image, words=[CONCEPT])
maps = said.targets[CONCEPT][:, said.picture].exp().view(len(said.sites), *said.grid)
svg.pictures([(cases[0].image, grid, str(site)) for site, grid in zip(said.sites, maps, strict=True)], f"p({CONCEPT})")

# %% [markdown]
# ## What can be read
#
# Linear probes of the concept at every layer of the tower and of the text, on test pictures, with 95% intervals; the
# dashed line is chance. A probe shows that the information is there. Only tracing shows that it is used.

# %%
sites = [site for site in model.sites() if site.stream == "resid"]
reading = read(model, sites, (500, 200, 300))
cells = sweep(reading, [CONCEPT], ("patch mean",))
points = [(cell.auroc.value, cell.auroc.low, cell.auroc.high) for cell in cells]
floor = [(cell.shuffled, cell.shuffled, cell.shuffled) for cell in cells]
labels = [f"{cell.site.tower} {cell.site.layer}" for cell in cells]
svg.curves({"probe": points, "same pictures, shuffled labels": floor}, labels, f"AUROC of probes for {CONCEPT}", 0.5)

# %% [markdown]
# To remove the concept where it was found, go on with `compare_localisations_and_remove`.
