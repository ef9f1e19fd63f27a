"""Units of a sweep are done once: not lost when a worker is killed, not done twice when it is run again."""

from __future__ import annotations

import importlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from app.cli import main
from app.sweeping import RESULTS, Unit, do, is_done, read_sweep, sweep

GRID = "models: [tiny-llava]\nconcepts: [red, star]\nmethods: [clamp, leace]\nseeds: [0, 1]\n"


def units(tmp_path: Path, text: str = GRID) -> list[Unit]:
    (tmp_path / "sweep.yaml").write_text(text, encoding="utf-8")
    return read_sweep(tmp_path / "sweep.yaml")


def noting(unit: Unit, folder: Path) -> None:
    """Leaves a line each time it begins, and a result at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if (pause := float(os.environ.get("PAUSE", unit.settings.get("questions", 0)))) > 0:
        time.sleep(pause)
    metrics = {"UAd": {"before": {"value": 0.0}, "after": {"value": 1.0}}}
    (folder / RESULTS).write_text(json.dumps({"metrics": metrics}))
    with (folder / "ended").open("a") as file:
        file.write(f"{os.getpid()}\n")


def test_the_file_gives_every_combination_once(tmp_path):
    found = units(tmp_path)
    assert len(found) == len({unit.name for unit in found}) == 8
    assert found == units(tmp_path)
    assert len(units(tmp_path, GRID.replace("[red, star]", "[red, red]"))) == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- 1", "expected models"),
        ("models: [a", "not YAML"),
        (GRID.replace("methods", "metods"), "did you mean methods"),
        (GRID.replace("[red, star]", "red"), "has to be a list of str"),
        (GRID.replace("[red, star]", "[]"), "at least one"),
        (GRID.replace("[0, 1]", "[a]"), "list of int"),
        (GRID + "settings: {question: 3}", "settings.question is 3"),
        (GRID + "settings: 3", "settings.settings is 3"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(text, reason, tmp_path):
    with pytest.raises(ValueError, match=reason):
        units(tmp_path, text)


def test_done_units_are_kept_and_changed_ones_are_done_anew(tmp_path):
    found, out = units(tmp_path), tmp_path / "out"
    assert [outcome.state for outcome in sweep(found[:3], out, work=noting)] == ["done"] * 3
    assert [outcome.state for outcome in sweep(found, out, work=noting)] == ["kept"] * 3 + ["done"] * 5
    other = units(tmp_path, GRID + "settings: {only_known: true}")
    assert sweep(other[:1], out, work=noting)[0].state == "done"
    assert [len((out / unit.name / "ended").read_text().split()) for unit in found] == [1] * 8
    body = json.loads((out / "sweep.json").read_text())
    assert body["units"][0]["metrics"]["UAd"]["value"] == 1.0
    (out / found[0].name / RESULTS).unlink()
    assert not is_done(found[0], out / found[0].name)


def test_a_unit_that_fails_does_not_stop_the_others(tmp_path):
    def work(unit: Unit, folder: Path) -> None:
        if unit.concept == "red":
            raise LookupError("no such concept")
        noting(unit, folder)

    outcomes = sweep(units(tmp_path), tmp_path / "out", work=work)
    assert [outcome.state for outcome in outcomes].count("failed") == 4
    assert {outcome.error for outcome in outcomes if outcome.state == "failed"} == {"LookupError: no such concept"}
    again = sweep(units(tmp_path), tmp_path / "out", work=noting)
    assert [outcome.state for outcome in again].count("kept") == 4


def test_the_command_ends_with_3_when_only_some_units_succeeded_and_says_which_failed(tmp_path, capsys):
    good, bad = units(tmp_path, "models: [tiny-llava]\nconcepts: [red]\nmethods: [clamp, clampp]\n")
    out = tmp_path / "out"
    assert do(good, out, noting).state == "done"
    command = ["sweep", str(tmp_path / "sweep.yaml"), "--out", str(out)]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--json"])
    assert ended.value.code == 3
    printed, errors = capsys.readouterr()
    found = json.loads(printed)
    assert (found["kept"], found["failed"]) == (1, 1)
    assert "1 of 2 units failed" in errors
    assert "Did you mean clamp" in next(unit["error"] for unit in found["units"] if unit["method"] == bad.method)
    do(bad, out, noting)
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 0
    assert "2 kept from before, 0 failed" in " ".join(capsys.readouterr().out.split())


def test_two_processes_do_not_do_the_same_unit(tmp_path):
    unit, out, states = Unit("m", "c", "x"), tmp_path / "out", []

    def slow(unit: Unit, folder: Path) -> None:
        time.sleep(0.3)
        noting(unit, folder)

    threads = [threading.Thread(target=lambda: states.append(do(unit, out, slow).state)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(states) == ["done", "kept", "kept"]
    assert len((out / unit.name / "ended").read_text().split()) == 1


def test_a_process_killed_in_the_middle_of_a_unit_loses_and_doubles_nothing(tmp_path):
    found, out = units(tmp_path)[:2], tmp_path / "out"
    slow = Unit(found[1].model, found[1].concept, found[1].method, found[1].seed, {"questions": 60})
    child = os.fork()
    if not child:
        sweep([found[0], slow], out, work=noting)
        os._exit(0)
    begun = out / slow.name / "begun"
    while not begun.is_file():
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    def quick(unit: Unit, folder: Path) -> None:
        noting(Unit(unit.model, unit.concept, unit.method, unit.seed), folder)

    assert [outcome.state for outcome in sweep([found[0], slow], out, work=quick)] == ["kept", "done"]
    assert [len((out / unit.name / "ended").read_text().split()) for unit in (found[0], slow)] == [1, 1]
    assert len(begun.read_text().split()) == 2


@pytest.mark.slow
def test_on_two_ray_workers_one_of_them_killed_nothing_is_lost_or_done_twice(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, str(Path(__file__).parent)]))
    services = importlib.import_module("ray._private.services")
    monkeypatch.setattr(services, "get_node", _patient(services.get_node))
    slow = {"agent_register_timeout_ms": 300_000}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False, _system_config=slow)
    try:
        found, out = [Unit("m", f"c{n}", "x", settings={"questions": 1}) for n in range(6)], tmp_path / "out"
        killed = []

        def kill() -> None:
            while not killed:
                for place in out.glob("*/begun"):
                    pid = int(place.read_text().split()[0])
                    if not (place.parent / "ended").exists():
                        os.kill(pid, signal.SIGKILL)
                        killed.append((place.parent.name, pid))
                        return
                time.sleep(0.05)

        killer = threading.Thread(target=kill)
        killer.start()
        outcomes = sweep(found, out, ray="", work=_shipped())
        killer.join()
        assert [outcome.state for outcome in outcomes] == ["done"] * 6
        ended = {unit.name: len((out / unit.name / "ended").read_text().split()) for unit in found}
        assert set(ended.values()) == {1}
        assert len((out / killed[0][0] / "begun").read_text().split()) == 2
        assert [outcome.state for outcome in sweep(found, out, ray="", work=_shipped())] == ["kept"] * 6
    finally:
        ray.shutdown()


def _patient(ask):
    """Ray gives its own start 30 seconds, which a busy machine exceeds."""

    def asking(*arguments):
        for _ in range(200):
            try:
                return ask(*arguments)
            except RuntimeError:
                time.sleep(1)
        return ask(*arguments)

    return asking


def _shipped():
    """`noting` as Ray can ship it to its workers: by value, since they cannot import a test."""

    def work(unit, folder):
        import os
        import time

        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "begun").open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(unit.settings["questions"])
        (folder / "results.json").write_text('{"metrics": {}}')
        with (folder / "ended").open("a") as file:
            file.write(f"{os.getpid()}\n")

    return work
