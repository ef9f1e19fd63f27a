from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from concept_forget.concepts import Concept, Example, ExampleSet
from concept_forget.edits import NoEdit
from concept_forget.evaluation.answers import AnswerBook
from concept_forget.evaluation.suite import Sample, evaluate, load_samples, save_samples
from concept_forget.model import Generation
from concept_forget.provenance import CannotWriteError
from concept_forget.report import Report

OBJECTS, COLOURS = ("cup", "star", "boat"), ("red", "blue", "green")


def picture(thing, colour, number):
    """All that is asked about one (text-only) picture; the prompt says what a parrot needs to answer."""
    group, shows = f"{thing}-{colour}-{number}", frozenset((thing, colour))

    def ask(prompt, answer, kind, about="", family=""):
        return Example(f"{group}: {prompt}", answer, None, kind, about, family, shows, (), group)

    return [
        ask("what thing", thing, "short", thing, "objects"),
        ask("what colour", colour, "short", colour, "colours"),
        ask(f"is there a {thing}", "yes", "yesno", thing, "objects"),
        ask(f"is it {colour}", "yes", "yesno", colour, "colours"),
        ask("describe", f"a {colour} {thing} on the table", "caption"),
    ]


def world():
    made = {t: [e for c in COLOURS for k in range(4) for e in picture(t, c, k)] for t in OBJECTS}
    split = ExampleSet(tuple(made["cup"]), tuple(made["star"] + made["boat"]), ())
    return Concept("cup", "objects", split, split, split, aliases=("mug",))


CONCEPT = world()


@dataclass
class Parrot:
    """A model whose every answer is planted."""

    reply: object
    name: str = "parrot"
    asked: list = field(default_factory=list)
    engine: object = field(default_factory=lambda: SimpleNamespace(weights=SimpleNamespace(version=0)))

    def tokenizer(self, texts, **_):
        return {"input_ids": [text.split() for text in texts]}

    def bare(self):
        return nullcontext()

    def prepare(self, prompts, _images, **_):
        return prompts

    def generate(self, batch, edits=(), **_):
        self.asked += batch
        return Generation([self.reply(prompt, bool(edits)) for prompt in batch], [])


TRUTH = {e.prompt: e.answer for part in CONCEPT.test for e in part}


def forgets(prompt, edited):
    return (
        TRUTH[prompt].replace("cup", "star").replace("yes", "no" if "a cup" in prompt else "yes")
        if edited
        else TRUTH[prompt]
    )


def test_a_model_that_knows_all_and_then_forgets_just_the_concept_scores_one():
    scores = evaluate(Parrot(forgets), CONCEPT, [NoEdit()])
    for name in ("UAd", "UAg"):
        assert (scores[name].before.value, scores[name].after.value) == (0, 1)
    for name in ("IRA", "COA"):
        assert (scores[name].before.value, scores[name].after.value) == (1, 1)
    assert scores.hm.after.value == 1 and scores.hm.before.value == 0
    assert scores.UAd.after.n == 12 and scores.COA.after.n == 24
    assert scores.refusals == scores.unparseable == 0
    assert len(scores.samples) == 12 * 4 + 24 * 4, (
        "the short question about the concept and other captions count for none"
    )


@pytest.mark.parametrize("said", ["I'm sorry, I can't answer that", "", "zxq vvk wqq", "the the the the the the the"])
def test_refusing_or_babbling_is_never_forgetting_and_never_knowing(said):
    scores = evaluate(Parrot(lambda prompt, edited: said if edited else TRUTH[prompt]), CONCEPT, [NoEdit()])
    for name in ("UAd", "UAg", "IRA", "CRA", "COA"):
        assert scores[name].after.value == 0, name
    total = sum(tally.n for tally in scores.tallies.values())
    assert (scores.refusals, scores.unparseable) == ((total, 0) if "sorry" in said else (0, total))
    assert scores.tallies["UAd"].refusals_before == 0


def test_of_a_text_that_one_does_not_know_is_forgetting_and_is_counted_apart():
    scores = evaluate(Parrot(lambda prompt, edited: "I don't know." if edited else TRUTH[prompt]), CONCEPT, [NoEdit()])
    assert {name: scores[name].after.value for name in ("UAd", "UAg", "IRA", "COA")} == {
        **dict.fromkeys(("UAd", "UAg"), 1),
        **dict.fromkeys(("IRA", "COA"), 0),
    }
    assert scores.refusals == scores.unparseable == scores.tallies["UAd"].unknown_before == 0
    assert scores.tallies["UAd"].unknown_after == scores.UAd.after.n


def test_without_edits_before_and_after_are_the_same_and_asked_once():
    parrot = Parrot(forgets)
    scores = evaluate(parrot, CONCEPT)
    assert len(parrot.asked) == len(set(parrot.asked)) == len(scores.samples)
    assert all(change.difference.high == 0 for name, change in scores.metrics.items() if change.after.n)


def test_bare_answers_are_taken_from_the_book_or_the_list_and_not_asked_again():
    parrot = Parrot(forgets)
    book = AnswerBook(parrot)
    first = evaluate(parrot, CONCEPT, [NoEdit()], before=book)
    parrot.asked.clear()
    assert evaluate(parrot, CONCEPT, [NoEdit()], before=book).metrics == first.metrics
    examples = [e for part in CONCEPT.test for e in part]
    assert evaluate(parrot, CONCEPT, [NoEdit()], before=[TRUTH[e.prompt] for e in examples]).metrics == first.metrics
    assert len(parrot.asked) == 2 * len(first.samples), "only the edited answers"
    with pytest.raises(ValueError, match="180 examples"):
        evaluate(parrot, CONCEPT, [NoEdit()], before=["yes"])


def test_a_limit_keeps_that_many_of_each_role_and_the_seed_says_which():
    some = evaluate(Parrot(forgets), CONCEPT, limit=7)
    assert {name: change.after.n for name, change in some.metrics.items() if name in ("UAd", "UAg", "IRA", "COA")} == {
        "UAd": 7,
        "UAg": 7,
        "IRA": 7,
        "COA": 7,
    }
    assert some.samples == evaluate(Parrot(forgets), CONCEPT, limit=7).samples
    assert some.samples != evaluate(Parrot(forgets), CONCEPT, limit=7, seed=1).samples


def test_only_what_the_model_knows_can_be_forgotten():
    def half_blind(prompt, edited):
        return "no" if prompt.startswith("cup-red") else forgets(prompt, edited)

    scores = evaluate(Parrot(half_blind), CONCEPT, [NoEdit()], only_known=True)
    assert scores.UAd.before.value == 0 and scores.UAd.after.n == 8
    with pytest.raises(ValueError, match="knows none"):
        evaluate(Parrot(lambda *_: ""), CONCEPT, only_known=True)


def test_examples_that_count_for_nothing_are_an_error():
    with pytest.raises(ValueError, match="none of the 1 examples"):
        evaluate(Parrot(forgets), CONCEPT, examples=[Example("x", "cup", about="cup", shows=frozenset(["cup"]))])


def test_samples_come_back_from_parquet_as_they_were(tmp_path):
    scores = evaluate(Parrot(forgets), CONCEPT, [NoEdit()])
    save_samples(tmp_path / "samples.parquet", scores.samples)
    assert load_samples(tmp_path / "samples.parquet") == scores.samples
    row = scores.samples[0]
    assert (row.role, row.status_before, row.status_after, row.group) == ("COA", "correct", "correct", "cup-red-0")
    (tmp_path / "bad.parquet").write_bytes((tmp_path / "samples.parquet").read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        load_samples(tmp_path / "bad.parquet")
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteError):
        save_samples(tmp_path / "file" / "samples.parquet", scores.samples)


def test_scores_make_a_report_that_survives_its_file(tmp_path):
    scores, control = evaluate(Parrot(forgets), CONCEPT, [NoEdit()]), evaluate(Parrot(forgets), CONCEPT)
    report = Report.of(scores, model="parrot", concept="cup", method="clamp", seed=0, controls={"none": control})
    back = Report.load(report.save(tmp_path / "results.json"))
    assert repr(back) == repr(report)
    assert back.metrics["UAd"].after.value == 1 and back.controls["none"]["UAd"].after.value == 0
    assert back.unanswered["UAd"]["n"] == 12


def test_a_real_model_can_be_measured_under_a_real_edit(tiny_llama):
    from concept_forget.evaluation import evaluate as front_door

    scores = front_door(tiny_llama, CONCEPT, limit=3, resamples=50)
    assert isinstance(scores.samples[0], Sample)
    assert 0 <= scores.UAd.after.low <= scores.UAd.after.high <= 1
