"""Exit codes, one JSON object on stdout, friendly errors on stderr, a quick start."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import main
from app.commands import shared
from concept_forget import zoo

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "run",
    "concepts",
    "models",
    "features",
    "sae train",
    "sae eval",
    "bench sauce60",
    "bench many",
    "bench removal",
    "bench rwku",
    "bench methods",
    "bench published",
    "bench self-test",
    "audit",
    "dose",
    "zoo train",
    "features show",
    "trace",
    "probe",
    "localise",
    "heads",
    "zoo measure",
    "apply",
    "export",
    "recipe show",
    "recipe check",
    "sweep",
]


def call(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return caught.value.code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    assert call(*command.split(), "--help") == 0
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"concept-forget {command}" in " ".join(text.split())
    assert "--json" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--concept", "rde", "--model", "tiny-lava"], "concept-forget models"),
        (["run", "--concept", "red", "--method", "souce"], "sauce"),
        (["run", "--forget", "dogs"], "--retain is missing"),
        (["run", "--spec", "dog.yaml", "--concept", "red"], "--forget and --retain"),
        (["run", "--concept", "red", "--require", "UAd>0.9"], "NAME>=NUMBER"),
        (["run", "--concept", "red", "--require", "UAd>=high"], "not a number"),
        (["concepts", "--family", "kolour"], "families are"),
        (["features", "--score", "x"], "contrast, sauce"),
        (["run", "--method", "flat", "--set", "divergence=reverse_kl", "--concept", "red"], "would push the template"),
        (["run", "--method", "flat", "--set", "divergense=kl", "--concept", "red"], "has no setting 'divergense'"),
        (["run", "--method", "flat", "--set", "steps", "--concept", "red"], "write NAME=VALUE"),
        (["run", "--method", "flat", "--set", "steps=many", "--concept", "red"], "a value such as 40"),
        (["run", "--method", "flat", "--set", "steps=null", "--concept", "red"], "a value such as 40."),
        (["run", "--method", "guard", "--set", "threshold=abc", "--concept", "red"], "takes a float or null"),
        (["run", "--method", "random_features", "--set", "of=clamp", "--concept", "red"], "in Python only"),
        (["run", "--set", "k=4", "--concept", "red"], "sauce+ chooses among methods"),
        (["run", "--nope"], "No such option"),
        (["zoo", "train", "tiny-lava"], "Did you mean tiny-llava"),
    ],
)
def test_bad_input_is_exit_2_with_a_message_and_no_traceback(arguments, message, capsys):
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert message in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err + out
    assert out == ""


@pytest.mark.parametrize(
    ("command", "key", "count"), [("concepts", "concepts", 60), ("models", "models", len(zoo.NAMES))]
)
def test_json_is_one_object_on_stdout(command, key, count, capsys):
    assert call(command, "--json") == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)[key]) == count
    assert err == ""


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (ValueError("bad"), 2),
        (LookupError("none"), 2),
        (OSError(28, "No space left on device"), 2),
        (KeyError("bug"), 1),
        (AssertionError("bug"), 1),
        (shared.GateFailed("too low"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(raised, code, capsys):
    def command():
        raise raised

    assert shared.guarded(command) == code
    assert capsys.readouterr().out == ""


def test_what_libraries_print_does_not_reach_stdout_of_json(capsys):
    with shared.quiet_stdout(True):
        sys.stdout.write("noise")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "noise")


@pytest.mark.parametrize(
    ("gates", "failed"), [(["UAd>=0.9"], 0), (["UAd>=0.97", "COA >= 0.5"], 1), ([], 0), (["COA>=1"], 1)]
)
def test_gates(gates, failed):
    assert len(shared.require(gates, {"UAd": 0.95, "COA": float("nan") if "COA>=1" in gates else 0.8})) == failed


def test_help_costs_little_processor_time():
    code = "import resource, subprocess, sys; subprocess.run([sys.executable, '-m', 'app', '--help'], check=True, "
    code += "stdout=subprocess.DEVNULL); sys.stdout.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 1  # processor time: the clock on the wall says more about what else is running
