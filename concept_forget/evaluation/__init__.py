"""What a model says, before and after an edit: answers, verdicts, metrics with intervals.

The functions `answers.answers` and `judge.judge` are left in their files, so that the files keep their names.
"""

from concept_forget.evaluation.answers import AnswerBook, ask, merge_hooks
from concept_forget.evaluation.judge import Status, Vocabulary, judge_all, mentions, yes_or_no
from concept_forget.evaluation.metrics import Change, Measured, Table, changes, compare, over_concepts
from concept_forget.evaluation.suite import Sample, Scores, Tally, evaluate, load_samples, save_samples

__all__ = [
    "AnswerBook",
    "Change",
    "Measured",
    "Sample",
    "Scores",
    "Status",
    "Table",
    "Tally",
    "Vocabulary",
    "ask",
    "changes",
    "compare",
    "evaluate",
    "judge_all",
    "load_samples",
    "mentions",
    "merge_hooks",
    "over_concepts",
    "save_samples",
    "yes_or_no",
]
