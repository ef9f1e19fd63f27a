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
# # Explore a dictionary
#
# A sparse dictionary writes every activation of a model as a sum of a few **features**. This notebook opens the
# dictionary of `tiny-llava`'s reading site (the place in the vision tower that everything the language model sees goes
# through), looks at how good it is, asks which features stand for a concept, and looks at one of them closely.
#
# To use it on a model of your own, replace the first cell: `HookedModel.load` takes a folder or a hub id, and
# `saes.harvest` + `saes.train` make a dictionary for it.

# %%
import warnings

# No progress bars on this page.
warnings.filterwarnings("ignore", message="IProgress not found")

# %%
import pandas as pd
from transformers.utils import logging

from analysis import svg
from concept_forget import zoo
from concept_forget.model import HookedModel
from concept_forget.worlds import VOCABULARY, questions, sample
from saes import SaeDictionary, rank
from saes.cards import read_cards
from saes.quality import quality

logging.disable_progress_bar()
model = HookedModel.load("tiny-llava")
dictionary = SaeDictionary.load(zoo.folder("tiny-llava") / "sae" / str(model.reading_site))
f"{model.name}: {dictionary.d_sae} features of {dictionary.d_in} numbers at {dictionary.site}"

# %% [markdown]
# ## Pictures whose truth is known
#
# The world draws scenes from sixty concepts and knows what each shows, and where.

# %%
scenes = sample("test", 200, seed=5)
svg.pictures([(scene.image, None, ", ".join(scene.labels.values())) for scene in scenes[:5]], "Some of the pictures")

# %%
examples = [example for scene in scenes for example in questions(scene, 0)]
cards = read_cards(model, dictionary, examples)
f"{len(cards.store):,} patches of {len(cards.store.groups)} pictures and texts read at {cards.store.site}"

# %% [markdown]
# ## Is it a good dictionary?
#
# `explained_variance` is the share of the activations' variance that the sum of features reproduces, `l0` how many
# features that takes per patch, `dead` how many never fire.

# %%
measured = quality(dictionary, cards.store)
names = ("tokens", "explained_variance", "l0", "cosine", "dead", "dense")
pd.DataFrame({"value": {name: getattr(measured, name) for name in names}}).round(4)

# %% [markdown]
# ## Which features stand for a concept?
#
# One pass over the activations gives the scores of all concepts. A good feature for *red* fires on red pictures, not on
# those of another colour (`near`), and not elsewhere (`retain`).

# %%
families = {name: word.family for name, word in VOCABULARY.items()}
found = rank(cards.moments, cards.moments.split_by_label("red", families), "contrast", 6)
pd.DataFrame(
    {
        "feature": found.indices.tolist(),
        "score": found.scores.tolist(),
        "red": found.forget_mean.tolist(),
        "other colours": found.near_mean.tolist(),
        "everything else": found.retain_mean.tolist(),
    }
).round(3).set_index("feature")

# %% [markdown]
# ## One feature, closely
#
# The pictures it fires on most (bright where it fires), how often it fires, which concepts it tells apart, which words
# adding it to a picture makes the model say, and its neighbours.

# %%
cards.card(int(found.indices[0]))

# %% [markdown]
# And one that stands for a thing rather than a colour:

# %%
star = rank(cards.moments, cards.moments.split_by_label("star", families), "contrast", 1)
cards.card(int(star.indices[0]))
