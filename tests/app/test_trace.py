"""`trace` as a user calls it."""

from __future__ import annotations

import json

import pytest

from app.tracing_cases import concept_cases, corruption_named, read_cases, text_cases


@pytest.fixture
def call(caller, tiny_llama):
    return caller("trace", model=tiny_llama)


def test_one_prompt_gives_every_cell_and_the_top(call):
    code, out, _, folder = call(
        "--prompt",
        "is there a cup ?",
        "--subject",
        "cup",
        "--replace",
        "red",
        "--stream",
        "mlp",
        "--top",
        "3",
        "--json",
    )
    assert code == 0
    found = json.loads(out)
    assert found["streams"] == ["mlp"] and found["corruption"] == "replace" and len(found["top"]) == 3
    assert found["top"][0]["effect"] == pytest.approx(max(max(row) for row in found["values"][0]), abs=1e-5)
    assert json.loads((folder / "trace.json").read_text())["values"] == found["values"]
    assert [path.stem for path in (folder / "figures").glob("*.html")] == ["trace_mlp"]


def test_a_file_of_prompts_and_a_preview(call, tmp_path):
    rows = [{"prompt": f"{word} colour is the cup ?", "subject": "cup", "known_id": 7} for word in ("which", "what")]
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    code, out, _, _ = call("--cases", str(tmp_path / "cases.json"), "--preview", "--stream", "resid")
    assert code == 0 and "Estimated" in " ".join(out.split()) and "2 prompts" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of --concept NAME, --prompt TEXT or --cases FILE"),
        (("--prompt", "is there a cup ?", "--subject", "dog", "--corruption", "noise"), "does not occur in the prompt"),
        (("--prompt", "a cup", "--subject", "cup", "--replace", "xylophone"), "unequal lengths"),
        (("--prompt", "a cup", "--corruption", "hammer"), "There is no corruption 'hammer'"),
        (("--prompt", "a cup", "--subject", "cup", "--metric", "loss"), "is not one of"),
        (("--prompt", "a cup", "--subject", "cup", "--answer", "yes", "--corruption", "noise"), "can be traced: 1 "),
        (("--prompt", "a cup", "--corruption", "minimal-pair"), "has no minimal pair"),
        (("--prompt", "a cup", "--corruption", "mean-box"), "picture"),
        (("--prompt", "a cup", "--subject", "cup", "--replace", "red", "--out", "/proc/nowhere"), "/proc/nowhere"),
        (("--concept", "star", "--prompts", "0"), "--prompts"),
        (("--cases", "nowhere.json"), "nowhere.json"),
    ],
)
def test_bad_input_ends_with_code_2(call, arguments, message):
    code, _, err, _ = call(*arguments)
    assert code == 2 and message in " ".join(err.split())


def test_a_prompt_answered_wrongly_is_skipped_and_counted(call, tmp_path):
    rows = [{"prompt": "a cup", "subject": "cup"}, {"prompt": "a red cup", "subject": "cup", "answer": "wood"}]
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    given = ("--cases", str(tmp_path / "cases.json"), "--stream", "resid", "--corruption", "noise")
    code, out, _, _ = call(*given)
    assert code == 0 and "Left out: 1 " in " ".join(out.split())
    code, out, _, _ = call(*given, "--json")
    assert sum(json.loads(out)["skipped"].values()) == 1 and len(json.loads(out)["prompts"]) == 1
    code, out, _, _ = call(*given, "--prompts", "1", "--json")
    assert json.loads(out)["skipped"] == {}


def test_cases_are_read_strictly(tmp_path):
    for name, text, message in (("a.json", "{", "is not JSON"), ("b.jsonl", '{"subject": "x"}', "Case 1 .* no prompt")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            read_cases(tmp_path / name)


def test_people_of_the_text_world_are_swapped_for_names_as_long_with_another_answer(tiny_llama):
    from concept_forget.worlds import text

    name = text.targets()[0]
    cases = text_cases(tiny_llama, name, 5, 0, "replace")
    assert cases and len({case.group for case in cases}) == len(cases)
    for case in cases:
        assert name in case.prompt and case.subject == name and case.foil not in (None, case.answer)
        lengths = [
            len(tiny_llama.tokenizer(f" {n}", add_special_tokens=False)["input_ids"]) for n in (name, case.replacement)
        ]
        assert lengths[0] == lengths[1]
    assert all(case.replacement == "" for case in text_cases(tiny_llama, name, 5, 0, "noise"))
    with pytest.raises(LookupError, match="reads no pictures"):
        text_cases(tiny_llama, name, 5, 0, "minimal-pair")


def test_words_are_asked_about_by_name():
    assert all("red" in case.prompt for case in concept_cases("red", 3, 0, "replace"))
    assert not any("red" in case.prompt for case in concept_cases("red", 3, 0, "minimal-pair"))
    with pytest.raises(LookupError, match="no corruption"):
        corruption_named("hammer")
