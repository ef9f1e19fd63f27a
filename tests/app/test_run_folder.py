"""Steps are taken over only by the same request, and a file is whole or absent."""

import json

import pytest

from app.run_folder import RunFolder


def boom():
    raise AssertionError("must not run")


def test_a_finished_step_is_not_done_again_on_resume(tmp_path):
    first = RunFolder(tmp_path / "run", {"a": 1})
    assert first.step("x", lambda: {"n": 1}) == {"n": 1}
    again = RunFolder(tmp_path / "run", {"a": 1}, resume=True)
    assert again.step("x", boom) == {"n": 1}
    assert again.timing == first.timing


@pytest.mark.parametrize(("request_", "resume"), [({"a": 2}, True), ({"a": 1}, False)])
def test_another_request_or_no_resume_starts_anew(tmp_path, request_, resume):
    RunFolder(tmp_path, {"a": 1}).step("x", lambda: 1)
    assert RunFolder(tmp_path, request_, resume=resume).step("x", lambda: 2) == 2


def test_a_failed_step_leaves_no_result_and_the_ones_before_stay(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.step("one", lambda: 1)
    with pytest.raises(AssertionError):
        folder.step("two", boom)
    assert folder.done("one") == 1
    assert folder.done("two") is None
    assert sorted(path.name for path in folder.steps.iterdir()) == ["one.json"]


def test_a_damaged_step_is_done_again(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.step("x", lambda: 1)
    (folder.steps / "x.json").write_text('{"key":')
    assert RunFolder(tmp_path, {}, resume=True).step("x", lambda: 2) == 2


def test_the_value_of_a_step_is_what_a_resumed_run_would_see(tmp_path):
    folder = RunFolder(tmp_path, {})
    value = folder.step("x", lambda: {"a": (1, 2)})
    assert value == json.loads(json.dumps({"a": (1, 2)})) == {"a": [1, 2]}


def test_nothing_is_created_before_there_is_something_to_keep(tmp_path):
    folder = RunFolder(tmp_path / "new", {})
    folder.log_error(ValueError("bad input"))
    assert not (tmp_path / "new").exists()


def test_the_traceback_is_in_the_log(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.log("started")
    try:
        boom()
    except AssertionError as error:
        folder.log_error(error)
    log = (tmp_path / "log.txt").read_text()
    assert "must not run" in log
    assert "Traceback" in log


def test_finish_removes_the_steps(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.step("x", lambda: 1)
    folder.finish()
    assert not folder.steps.exists()


def test_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        RunFolder(tmp_path / "file", {})
