"""From words and pictures to a batch."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from concept_forget.edits.base import Edit
from concept_forget.model import HookedModel


@dataclass(frozen=True)
class Asking(Edit):
    def prompt(self, text):
        return f"no red . {text}"


def test_prompt_edits_are_written_into_the_prompt_and_must_be(tiny_llama):
    batch = tiny_llama.prepare(["yes"], edits=[Asking()])
    assert "no red . yes" in tiny_llama.tokenizer.decode(batch.inputs["input_ids"][0])
    tiny_llama.generate(batch, [Asking()], max_new_tokens=1)
    with pytest.raises(ValueError, match="prepared without it"):
        tiny_llama.generate(tiny_llama.prepare(["yes"]), [Asking()])


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("tiny_llama", {"images": [1, 2]}, "reads text only"),
        ("tiny_llava", {"images": [1]}, "one picture per prompt"),
        ("tiny_llava", {"images": [1, None]}, "two batches"),
        ("tiny_llava", {"answers": ["a"]}, "one answer per prompt"),
        ("tiny_llava", {"prompts": ["what <image> ?", "yes"]}, "Leave it out"),
        ("tiny_llava", {"prompts": []}, "no prompts"),
    ],
)
def test_prompts_and_pictures_that_do_not_fit_are_refused(request, picture, name, arguments, says):
    given = {"prompts": ["yes", "no"], **arguments}
    if "images" in given:
        given["images"] = [None if seed is None else picture(seed) for seed in given["images"]]
    with pytest.raises(ValueError, match=says):
        request.getfixturevalue(name).prepare(**given)


def test_the_beginning_of_sequence_is_written_once(tiny_llama):
    words = copy.deepcopy(tiny_llama.tokenizer)
    words.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    model = HookedModel(tiny_llama.model, words)
    assert (model.prepare(["yes"]).inputs["input_ids"] == 1).sum() == 1
    words.chat_template = "<s>" + words.chat_template
    assert (model.prepare(["yes"]).inputs["input_ids"] == 1).sum() == 1


def test_the_beginning_of_sequence_is_written_once_when_the_processor_writes_it_too(tiny_mllama, picture):
    """As Llama-3.2-Vision: processor and tokenizer both know how to begin, the template here does not."""
    processor = copy.deepcopy(tiny_mllama.processor)
    steps = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    processor.tokenizer.backend_tokenizer.post_processor = steps
    batch = HookedModel(tiny_mllama.model, processor).prepare(["yes", "no"], [picture(0), picture(1)])
    assert (batch.inputs["input_ids"] == 1).sum(1).tolist() == [1, 1]


def test_a_tokenizer_of_another_model_is_refused(tiny_llama, tmp_path):
    tiny_llama.model.save_pretrained(tmp_path)
    tiny_llama.tokenizer.save_pretrained(tmp_path)
    HookedModel.load(str(tmp_path), device="cpu")
    wider = copy.deepcopy(tiny_llama.tokenizer)
    wider.add_tokens([f"new{number}" for number in range(500)])
    wider.save_pretrained(tmp_path)
    with pytest.raises(LookupError, match="do not belong together"):
        HookedModel.load(str(tmp_path), device="cpu")


def test_a_checkpoint_without_some_weights_is_refused(tiny_llama, tmp_path):
    """transformers makes them up: the model would load, and babble."""
    weights = tiny_llama.model.state_dict()
    tiny_llama.model.save_pretrained(tmp_path, state_dict={k: v for k, v in weights.items() if "layers.1." not in k})
    tiny_llama.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(LookupError, match=r"weights of a LlamaForCausalLM are not in .*layers\.1\."):
        HookedModel.load(str(tmp_path), device="cpu")


def test_a_saved_model_is_loaded_and_answers_the_same(tiny_llava, tmp_path, picture):
    tiny_llava.model.save_pretrained(tmp_path)
    tiny_llava.processor.save_pretrained(tmp_path)
    loaded = HookedModel.load(str(tmp_path), device="cpu")
    images = [picture(0), picture(1)]
    before, after = (model.run(model.prepare(["yes", "no"], images)).logits for model in (tiny_llava, loaded))
    assert torch.equal(before, after)


def test_a_model_that_is_not_there_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(LookupError, match="Give a name of the zoo"):
        HookedModel.load(str(tmp_path))
