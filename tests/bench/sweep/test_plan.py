"""What a sweep would take, from measured rows."""

import json
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given
from hypothesis import strategies as st

from bench.plan import Machine, load_note, main, rounds, totals
from bench.runs import run
from bench.sweep.plan.estimate import Estimate, Times, estimate
from bench.sweep.plan.groups import Group
from bench.sweep.plan.schedule import wall_seconds
from tests.bench.report.samples import record, timed
from tests.bench.small import SMALL

REFERENCE = Path(__file__).parents[3] / "results" / "reference" / "omniglot-cpu"
JOBS = st.lists(st.integers(0, 400).map(float), min_size=1, max_size=12)


@given(JOBS, st.integers(1, 5))
def test_jobs_start_in_order_as_workers_become_free(jobs, workers):
    ends = [0.0] * workers
    for job in jobs:
        first = ends.index(min(ends))
        ends[first] += job
    assert wall_seconds([jobs], workers) == max(ends)


def test_a_round_waits_for_the_one_before():
    assert wall_seconds([[1.0, 5.0], [2.0, 2.0]], 2) == 5 + 2


def measured(**changes):
    """A row that trained 100 s on 1,000 images, evaluated 1,000 images/s, and took 130 s."""
    throughput = [*timed(10.0), timed(10.0)[0] | {"phase": "evaluate", "examples_per_s": 1000.0}]
    budget = {"train_examples": 1000, "validations": 2, "val_episodes": 50, "episodes": 100}
    seconds = {"train_seconds": 100.0, "elapsed_seconds": 130.0}
    return record(throughput=throughput, **budget | seconds | changes)


def test_a_cell_that_was_measured_takes_what_its_row_took():
    row = measured()
    found = estimate(row, [row, measured(algo_options={"inner_steps": 9})])
    # (5 ways, 16 images each) of 100 episodes make 8 s, in validation and in the test
    assert found.times == [(108 + 22, None)] and found.differing == []


def test_times_go_by_the_images_of_training_and_of_evaluation():
    wanted = measured(train_examples=3000, episodes=1000, shots=5)
    found = estimate(wanted, [measured()])
    # 3 x 100 s; 100 episodes of 100 images in validation and 1,000 in the test; 14 s of other things
    assert found.times == [(300 + 10 + 100 + 14, None)]
    assert found.differing == ["shots", "train_shots", "train_examples", "episodes"]


def test_rows_of_a_busy_machine_are_reckoned_as_on_an_idle_one():
    facts = measured()
    half = measured(train_process_seconds=50.0)
    assert estimate(facts, [half]).times == [((108 + 22) / 2, None)]
    two_threads = measured(train_process_seconds=190.0)
    assert estimate(facts, [two_threads]).times[0].seconds == 108 + 22, "no longer than it took"
    assert estimate(facts, [half | {"device": "cuda"}]).times[0].seconds == 108 + 22
    assert "had 50% to 100% of the processor time" in load_note([half, two_threads, facts])


def test_the_nearest_rows_count_from_fast_to_slow():
    wanted = measured()
    slow, fast = measured(elapsed_seconds=190.0), measured(elapsed_seconds=150.0)
    other = measured(ways=20, elapsed_seconds=10.0)
    found = estimate(wanted, [slow, other, fast, measured(algo="reptile")])
    assert [each.seconds for each in found.times] == [150, 190]
    assert found.middle.seconds == 170, "of two the mean"
    assert estimate(wanted, [measured(backbone="resnet12"), measured(dataset="cub")]) is None


def test_energy_is_power_times_time():
    row = measured()
    for phase in row["throughput"]:
        phase["power_w"] = {"train": 300.0, "evaluate": 200.0}.get(phase["phase"])
    assert estimate(row, [row]).times[0].joules == 300 * 100 + 200 * 30


def test_one_thread_is_not_threads():
    titles = [
        Machine(device, "X", threads).title
        for device, threads in (("cpu", 1), ("cpu", 2), ("cuda", 1))
    ]
    assert titles == ["X, 1 thread", "X, 2 threads", "X"]


def test_totals_are_told_without_what_says_nothing():
    hour = Times(36060.0, 3.6e6 * 3.2)
    group = Group("cuda", ["a"], {}, 5000, 5000)
    machine = Machine("cuda", "H100", 8)
    alike = Estimate([hour, hour._replace(seconds=36060.01)], [])
    text = totals([(group, alike)], machine, 64)
    assert "16,000 kWh" in text and "to 50," not in text and "In brackets" not in text
    slower = Estimate([hour, hour._replace(seconds=72060.0)], [])
    text = totals([(group, slower)], machine, 64)
    assert "(50,083.3 GPU hours to 100,083.3 GPU hours)" in text and "In brackets" in text


def test_a_round_that_was_begun_is_ended_first():
    job = Times(1.0, None)
    trials = Group("cpu", ["a"], {}, 7, 5, batch_size=3)
    cells = Group("cpu", ["a"], {}, 3, 2)
    known = [(trials, Estimate([job], [])), (cells, Estimate([job], []))]
    assert [len(each) for each in rounds(known, lambda e: e.middle)] == [1, 3, 1, 2]


@pytest.fixture
def said(capsys):
    def command(*arguments: str) -> tuple[int, str]:
        GlobalHydra.instance().clear()
        status = main(list(arguments))
        out, error = capsys.readouterr()
        return status, out + error

    return command


def test_the_plan_of_a_sweep_for_two_kinds_of_machine(make, said, cache, tmp_path):
    cell = make("seed=0")
    row = run.run(cell)
    gpu = {"device": "cuda", "device_name": "Some GPU", "elapsed_seconds": 7200.0}
    name = "protonet-glyphs-5w1s-seed9-00000000"
    folder = cell.store.runs / name
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(row | gpu | {"cell": name}))
    (folder / "episodes.csv").write_text((folder.parent / cell.name / "episodes.csv").read_text())

    options = [o for o in SMALL if o != "device=cpu"] + [f"cache_dir={cache}"]
    sweep = ["algo=protonet,maml", "seed=0,1,2", *options, f"results_dir={tmp_path}/results"]
    status, text = said("-m", *sweep, "workers=2")
    assert status == 0
    of_cpu, of_gpu = text.split("###")[1:]
    assert "1 rows of " in of_cpu and of_gpu.startswith(" Some GPU, 1 rows of ")
    assert "6 cells, of which 6 are to be run" in of_cpu, "that of device=cpu has another name"
    assert "| algo=protonet | 3 | 2h 00m | – | 1 row |" in of_gpu
    assert "3 cells, 0 of which by rows of other settings: 6.0 GPU hours; on 2" in of_gpu
    assert "on 2 workers 4h 00m, the longest one 2h 00m." in of_gpu
    assert "Nothing is said of 3 cells" in of_gpu
    assert f"`python -m bench algo=maml {options[0]}" in of_gpu

    status, text = said(*sweep, "device=cpu", "algo=protonet")
    assert text.count("###") == 1 and "3 cells, of which 2 are to be run" in text
    status, text = said(*sweep[2:], "device=cpu", "algo=protonet", "seed=0", "workers=9")
    assert status == 0 and "1 cell, of which 0 are to be run" in text


def test_the_plan_of_a_sweep_that_tunes(make, said, cache, tmp_path):
    pytest.importorskip("optuna")
    from bench.sweep import tuning

    run.run(make("seed=0"))  # has the options of the first trial, but was not found by trials
    tune = [
        "tune=optuna",
        "tune.n_trials=3",
        "tune.n_startup_trials=1",
        "tune.batch_size=2",
        "tune.examples=240",
    ]
    options = [*tune, *SMALL, f"cache_dir={cache}", f"results_dir={tmp_path}/results"]
    sweep = [*options, "seed=0,1", "throughput.seconds=0.01,0.02"]

    def checked(overrides):
        return tuning.check(make(*tune, *overrides))

    status, text = said("-m", *sweep)
    assert status == 0
    assert "4 cells, of which 4 are to be run after 3 trials that find their options;" in text
    assert text.count("(trials) | 3 |") == 1, "one study for all"
    assert "3 trials and 4 cells, 3 of which by rows of other settings" in text
    assert "1 row of other train_examples |" in text, "what is not tested has no other tests"
    batches = tuning.batches([[]], checked)
    for job in next(batches):
        tuning.run_trial(checked(job))
    batches.close()
    assert "4 are to be run after 1 trial that" in said(*sweep)[1]
    for batch in tuning.batches([[]], checked):
        for cell in map(checked, batch):
            (run.run if cell.config.tuned else tuning.run_trial)(cell)
    assert "4 cells, of which 2 are to be run;" in said(*sweep)[1], "a seed is finished"


def test_rows_of_several_processes_tell_nothing_of_one(make, said, cache, tmp_path):
    cell = make("seed=0")
    path = cell.store.runs / cell.name / "record.json"
    row = run.run(cell)
    path.write_text(json.dumps(row | {"processes": 2}))
    status, text = said(*SMALL, f"cache_dir={cache}", f"results_dir={tmp_path}/results")
    assert status == 2 and "no finished runs" in text and "that one process made" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["algo=maml", "workers=0"], "workers=0 is invalid"),
        (["algo=maml", "workers=100000"], "a number from 1 to 99999"),
        (["tune=optuna", "seed=0,1000", "from={reference}"], "seed=1000 is that of the trials"),
        (["algo=maml", "from=nowhere"], "There are no finished runs under nowhere/runs"),
        ([], "There is no sweep in results/sweeps"),
        (["algo=mamml", "from={reference}"], "There is no algo 'mamml'"),
        (["seed=0,x", "from={reference}"], "seed=x is invalid"),
    ],
)
def test_mistakes(said, arguments, sentence, tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    arguments = [argument.format(reference=REFERENCE) for argument in arguments]
    if arguments:
        arguments.append(f"cache_dir={cache}")
    status, text = said(*arguments)
    assert status == 2 and sentence in text and text.count("\n") == 1, text
