"""A short form of the campaign: the faults nobody may miss, and that a missed one is told."""

import pytest
import yaml

from tools.campaigns import mutants
from tools.campaigns.mutations import mutants as faults_of

FAULTS = {
    "algorithms/maml.py": ("rate, gradient, value=-1)", "rate, gradient, value=1)"),
    "algorithms/reptile.py": ("(before[n] - fast[n])", "(before[n] + fast[n])"),
    "algorithms/protonet.py": ("2 * products - squares", "2 * products + squares"),
    "algorithms/solvers/svm.py": ("(outer + outer.mT) / -2", "(outer + outer.mT) / 2"),
    "bench/tasks/episodes.py": (
        "arange(first, first + count",
        "arange(first, first - count",
    ),
    "bench/core/philox.py": ("in range(10)", "in range(11)"),
    "bench/tasks/pool.py": (
        "base_class.argsort(stable=True).view(-1, 4)",
        ".view(1, 4)",
    ),
    "bench/tasks/classification/domain.py": ("(answer == labels)", "(answer != labels)"),
    "bench/engine/evaluate.py": ("if eval_batch_size == 1", "if eval_batch_size != 1"),
    "bench/report/leaderboard.py": ("pair.second == label", "pair.second != label"),
    "bench/engine/throughput.py": ("tasks / median", "tasks * median"),
    "bench/sweep/tuning.py": ("state == TrialState.COMPLETE]", "state != TrialState.COMPLETE]"),
    "bench/runs/verify.py": ("abs() > 1e-9", "abs() <= 1e-9"),
}


QUICK = ("bench/core/philox.py", "bench/tasks/pool.py")
WORST = [fault for fault in mutants.planted() if fault.worst]
GENEROUS = 3600.0
"""Seconds after which even a busy machine would have ended the tests of a fault."""


@pytest.mark.parametrize(
    "file",
    [pytest.param(f, marks=[pytest.mark.slow] * (f not in QUICK)) for f in FAULTS],
)
def test_a_wrong_sign_or_number_is_seen(file):
    was, now = FAULTS[file]
    (fault,) = [f for f in mutants.of_file(file) if was in f.change and now in f.change]
    assert mutants.outcome(file, fault.source, GENEROUS) == "killed"


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, marks=[pytest.mark.slow] * (f != WORST[0]), id=f.what) for f in WORST],
)
def test_the_worst_faults_of_an_attacker_are_seen(fault):
    assert mutants.outcome(fault.file, fault.source, GENEROUS, fault.tests) == "killed"


def test_a_planted_fault_that_survives_ends_with_status_1(capsys):
    harmless = (mutants.ROOT / "bench/runs/cell.py").read_text() + "# no fault\n"
    fault = mutants.Planted(
        "bench/runs/cell.py", "none", harmless, "test_evaluate.py -k by_hand", False
    )
    assert mutants.plant([fault]) == 1
    assert "survived: bench/runs/cell.py: none" in capsys.readouterr().out


def test_a_fault_that_survives_must_be_listed(monkeypatch, tmp_path, capsys):
    """The axes of images counted from the other end are the same axes."""
    arguments = ["--files", "bench/tasks/pool.py", "--only", "quarter, (2, -1))"]
    assert mutants.main(arguments) == 0
    assert "(the same axis)" in capsys.readouterr().out
    empty = tmp_path / "none.yaml"
    empty.write_text("{}")
    monkeypatch.setattr(mutants, "SURVIVORS", empty)
    assert mutants.main(arguments) == 1
    assert "0 killed (0.0%; 0 by time), 1 survived" in capsys.readouterr().out


def test_tests_that_take_too_long_kill():
    assert mutants.outcome("bench/tasks/pool.py", "while True: pass", 1) == "timed out"


SOURCE = '''
"""Not a - b."""
def f(a: int = 1, *, b: "int | None" = None) -> int:
    """Nor this."""
    total = 0.5
    for x in range(a):
        total = total + -x if x < 2 and not b else min(x.mT, 0.0)
    if total:
        raise ValueError(f"{total - 1}")
    return total
'''


def test_faults_are_small_and_make_sense():
    changes = [fault.change.split(" → ")[1] for fault in faults_of("f.py", SOURCE)]
    assert changes == [
        'def f(a: int = 2, *, b: "int | None" = None) -> int:',
        "total = 1.0",
        "pass",
        "total = total + -x if not (x < 2 and not b) else min(x.mT, 0.0)",
        "total = total + -x if x < 2 or not b else min(x.mT, 0.0)",
        "total = total + -x if x <= 2 and not b else min(x.mT, 0.0)",
        "total = total + -x if x >= 2 and not b else min(x.mT, 0.0)",
        "total = total + -x if x < 3 and not b else min(x.mT, 0.0)",
        "total = total + -x if x < 2 and b else min(x.mT, 0.0)",
        "total = total - -x if x < 2 and not b else min(x.mT, 0.0)",
        "total = total + x if x < 2 and not b else min(x.mT, 0.0)",
        "total = total + -x if x < 2 and not b else max(x.mT, 0.0)",
        "total = total + -x if x < 2 and not b else min(x, 0.0)",
        "total = total + -x if x < 2 and not b else min(x.mT, 1.0)",
        "if not (total):",
        "pass",
    ]


def test_every_fault_that_is_listed_is_one_of_its_file():
    for file, groups in yaml.safe_load(mutants.SURVIVORS.read_text()).items():
        possible = {fault.change for fault in mutants.of_file(file)}
        listed = {change for group in groups for change in group["changes"]}
        assert listed <= possible, sorted(listed - possible)
