import errno
import json
import os

import pytest
import torch
from PIL import Image

from concept_forget.concepts import Example
from concept_forget.sites import Site
from concept_forget.tokens import IMAGE, TEXT
from saes import store as store_module
from saes.harvest import group_of, harvest
from saes.store import ActivationStore, Cancelled

SITE = Site("vision", 2, "resid")


def picture(seed: int) -> Image.Image:
    pixels = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Seven pictures with three questions each."""
    pictures = [picture(i) for i in range(7)]
    shows = [frozenset({"star"}) if i % 2 else frozenset({"cup", "red"}) for i in range(7)]
    return [
        Example(f"question {q} ?", "yes", image=pictures[i], group=f"p{i}", shows=shows[i])
        for i in range(7)
        for q in range(3)
    ]


def whole(store: ActivationStore) -> torch.Tensor:
    return torch.cat([rows.x for rows in store.shards()])


def test_rows_are_the_activations_of_each_picture_once(tiny_llava, examples):
    store = harvest(tiny_llava, examples, SITE, batch_size=3, shard_examples=4)
    assert store.groups == tuple(f"p{i}" for i in range(7))
    for number, rows in store.by_group():
        example = examples[3 * number]
        batch = tiny_llava.prepare([example.prompt], [example.image])
        run = tiny_llava.run(batch, read=[SITE], logits=None)
        expected = run.activations[SITE][0, run.tokens.patches(SITE)]
        torch.testing.assert_close(rows.x, expected, atol=1e-5, rtol=1e-4)
        assert rows.token.tolist() == list(range(16))
        assert set(rows.kind.tolist()) == {IMAGE}
    assert {name: mask.tolist() for name, mask in store.labels(["star"]).items()} == {
        "star": [i % 2 == 1 for i in range(7)]
    }
    with pytest.raises(LookupError, match="zebra.*cup, red, star"):
        store.labels(["zebra"])


def test_the_language_model_never_runs_for_a_vision_site(tiny_llava, examples):
    def refuse(*_):
        raise AssertionError("the language model ran")

    handle = tiny_llava.module(Site("text", 0, "resid"))[0].register_forward_pre_hook(refuse)
    try:
        assert len(harvest(tiny_llava, examples, SITE)) == 7 * 16
        with pytest.raises(AssertionError):
            harvest(tiny_llava, examples, Site("text", 1, "resid"))
    finally:
        handle.remove()


@pytest.mark.parametrize("fixture", ["tiny_llama", "tiny_llava", "tiny_gpt2"])
def test_text_rows_are_words_only_and_each_prompt_of_a_group_counts(fixture, request):
    model, site = request.getfixturevalue(fixture), Site("text", 1, "resid")
    texts = ["a red cup on wood .", "yes", "a red cup on wood .", "is there a star ?"]
    examples = [Example(text, "yes", group=group) for text, group in zip(texts, "abab", strict=True)]
    store = harvest(model, examples, site, batch_size=2)
    assert store.groups == ("a", "b")
    alone = {}
    for text in dict.fromkeys(texts):
        run = model.run(model.prepare([text]), read=[site], logits=None)
        alone[text] = run.activations[site][0][run.tokens.text_mask[0]]
    groups = {number: rows for number, rows in store.by_group()}
    torch.testing.assert_close(groups[0].x, alone[texts[0]], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(groups[1].x, torch.cat([alone["yes"], alone[texts[3]]]), atol=1e-4, rtol=1e-3)
    assert set(groups[1].kind.tolist()) == {TEXT}


def test_padding_tiles_of_mllama_are_left_out(tiny_mllama):
    wide, square = picture(0).resize((64, 32)), picture(1)
    examples = [Example("?", "yes", image=image, group=str(i)) for i, image in enumerate([wide, square])]
    together = harvest(tiny_mllama, examples, Site("vision", 1, "resid"))
    apart = [harvest(tiny_mllama, [example], Site("vision", 1, "resid")) for example in examples]
    assert [len(rows.x) for _, rows in together.by_group()] == [len(store) for store in apart]
    assert len(apart[0]) > len(apart[1])
    torch.testing.assert_close(whole(together), torch.cat([whole(store) for store in apart]), atol=1e-4, rtol=1e-3)


def test_disk_and_memory_hold_the_same(tiny_llava, examples, tmp_path):
    memory = harvest(tiny_llava, examples, SITE, batch_size=2, shard_examples=3)
    harvest(tiny_llava, examples, SITE, tmp_path, batch_size=2, shard_examples=3)
    disk = ActivationStore.open(tmp_path)
    assert torch.equal(whole(memory), whole(disk))
    assert (disk.groups, disk.shows, disk.site, len(disk)) == (memory.groups, memory.shows, SITE, 7 * 16)
    for a, b, _ in zip(memory.batches(10, seed=3), disk.batches(10, seed=3), range(30), strict=False):
        assert torch.equal(a, b)


def test_a_killed_harvest_resumes_and_loses_at_most_one_shard(tiny_llava, examples, tmp_path):
    def killed(done, _):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        harvest(tiny_llava, examples, SITE, tmp_path, batch_size=1, shard_examples=2, progress=killed)
    with pytest.raises(ValueError, match="2 of 4 shards to go"):
        ActivationStore.open(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    assert len(before) == 2
    seen = []
    store = harvest(
        tiny_llava, examples, SITE, tmp_path, batch_size=1, shard_examples=2, progress=lambda done, _: seen.append(done)
    )
    assert seen == [2, 4, 5, 6, 6, 7, 7]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert torch.equal(whole(store), whole(harvest(tiny_llava, examples, SITE, batch_size=1)))


def test_a_harvest_can_be_cancelled_between_batches(tiny_llava, examples):
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        harvest(tiny_llava, examples, SITE, batch_size=1, cancelled=lambda: next(asked))


def test_a_corrupt_shard_is_named_and_replaced_by_another_harvest(tiny_llava, examples, tmp_path):
    expected = whole(harvest(tiny_llava, examples, SITE, tmp_path, shard_examples=3))
    shard = tmp_path / "00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    store = ActivationStore.open(tmp_path)
    with pytest.raises(ValueError, match="00001.safetensors is corrupt"):
        whole(store)
    assert torch.equal(whole(harvest(tiny_llava, examples, SITE, tmp_path, shard_examples=3)), expected)
    shard.unlink()
    with pytest.raises(ValueError, match="00001.safetensors is missing"):
        whole(ActivationStore.open(tmp_path))


def test_a_folder_of_another_harvest_is_refused(tiny_llava, examples, tmp_path):
    harvest(tiny_llava, examples, SITE, tmp_path)
    with pytest.raises(ValueError, match="another model, site or set"):
        harvest(tiny_llava, examples, Site("vision", 1, "resid"), tmp_path)
    with pytest.raises(ValueError, match="another model, site or set"):
        harvest(tiny_llava, examples[3:], SITE, tmp_path)


def test_a_retrained_model_is_another_model(tiny_llava, examples, tmp_path):
    harvest(tiny_llava, examples, SITE, tmp_path)
    weight = next(tiny_llava.model.parameters())
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.add_(0.1)
        with pytest.raises(ValueError, match="another model"):
            harvest(tiny_llava, examples, SITE, tmp_path)
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_written(tiny_llava, examples, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    harvest(tiny_llava, examples[:3], SITE, tmp_path / "fits")
    monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(ValueError, match="No space left on device.*Free space"):
        harvest(tiny_llava, examples, SITE, tmp_path / "full")
    assert list((tmp_path / "full").iterdir()) == []


def test_a_damaged_or_foreign_index_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no activations"):
        ActivationStore.open(tmp_path)
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(ValueError, match="index.json is damaged"):
        ActivationStore.open(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"schema": "other"}))
    with pytest.raises(ValueError, match="index.json is no"):
        ActivationStore.open(tmp_path)


def test_some_tokens_of_each_picture_can_be_enough(tiny_llava, examples):
    store = harvest(tiny_llava, examples, SITE, per_group=2)
    tokens = [tuple(rows.token.tolist()) for _, rows in store.by_group()]
    assert [len(part) for part in tokens] == [2] * 7
    assert len(set(tokens)) > 1
    everything = whole(harvest(tiny_llava, examples, SITE)).view(7, 16, -1)
    for number, rows in store.by_group():
        assert torch.equal(rows.x, everything[number, rows.token.long()])


def test_a_picture_site_needs_pictures(tiny_llava):
    with pytest.raises(ValueError, match="vision.2.resid is read from pictures"):
        harvest(tiny_llava, [Example("?", "yes")], SITE)
    with pytest.raises(ValueError, match="no examples"):
        harvest(tiny_llava, [], SITE)


def test_an_example_without_group_is_known_by_its_content():
    one, same, other = (Example("?", "yes", image=picture(i)) for i in (0, 0, 1))
    assert group_of(one) == group_of(same) != group_of(other)


@pytest.mark.parametrize("room", [1 << 31, 1])
def test_batches_are_shuffled_epochs_of_every_row(planted, monkeypatch, room):
    monkeypatch.setattr(store_module, "RAM", room)
    store = ActivationStore(planted.store.site, planted.store.groups, planted.store.shows, planted.store._shards)
    stream = store.batches(60, seed=1)
    epoch = torch.cat([next(stream) for _ in range(16)])
    rows = planted.z.reshape(-1, 16)
    assert not torch.equal(epoch, rows)
    assert torch.equal(epoch.sum(1).sort().values, rows.sum(1).sort().values)
    again = store.batches(60, seed=1)
    assert torch.equal(epoch, torch.cat([next(again) for _ in range(16)]))
    assert not torch.equal(epoch, torch.cat([next(stream) for _ in range(16)]))
