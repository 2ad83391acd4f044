"""The suite as a library."""

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import ListConfig

import bench
from bench.config.compose import configuration, overrides_from
from bench.core.errors import RunFailedError, UserError
from bench.runs.model import WEIGHTS
from tests.bench.small import SMALL

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folders(tmp_path, cache) -> dict[str, str]:
    return {"results_dir": str(tmp_path), "cache_dir": cache}


def test_a_learner_is_trained_and_evaluated_in_one_call_and_not_again(tmp_path, folders):
    result = bench.run(*SMALL, "algo=protonet", **folders)
    record = result.record
    assert (record["algo"], record["status"], record["episodes"]) == ("protonet", "done", 12)
    assert (result.score, result.ci95) == (record["score"], record["ci95"])
    assert len(result.episodes) == 12
    assert result.episodes["score"].mean() == pytest.approx(result.score)
    assert bench.run(*SMALL, algo="protonet", **folders) == result
    assert list((tmp_path / "runs").glob("[!.]*")) == [result.folder]


def test_a_cell_that_fails_raises_its_reason_each_time(folders):
    options = [*SMALL, "algo=maml", "algo.inner_lr=1e30"]
    with pytest.raises(RunFailedError, match="is NaN"):
        bench.run(*options, **folders)
    (row,) = bench.sweep(*options, **folders).to_dict("records")
    assert row["status"] == "failed" and "is NaN" in row["reason"]
    with pytest.raises(RunFailedError, match="retry_failed=true"):
        bench.run(*options, **folders)


def test_a_sweep_is_a_row_a_cell_in_the_order_of_the_command(folders):
    rows = bench.sweep(*SMALL, "shots=1,2", algo=["protonet", "r2d2"], **folders)
    cells = list(zip(rows["shots"], rows["algo"], strict=True))
    assert cells == [(1, "protonet"), (1, "r2d2"), (2, "protonet"), (2, "r2d2")]
    assert set(rows["status"]) == {"done"}


def test_the_function_and_the_package_of_sweeps_have_one_name():
    code = "import bench; print(bench.sweep); import bench.sweep.job; print(bench.sweep.__call__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.count("<function sweep at ") == 2, done.stderr


def test_all_cells_are_checked_before_the_first_is_run(tmp_path, folders):
    with pytest.raises(UserError, match="ways=1 "):
        bench.sweep(*SMALL, algo="protonet", ways=[2, 1], **folders)
    with pytest.raises(UserError, match="There is no option 'shot'; did you mean 'shots'"):
        bench.run(shot=5)
    assert not list((tmp_path / "runs").glob("[!.]*"))


@pytest.mark.slow
def test_numbers_are_those_of_the_command_to_the_bit(tmp_path, cache):
    options = [*SMALL, "algo=maml", f"cache_dir={cache}", "threads=1"]
    command = [sys.executable, "-m", "bench", *options, f"results_dir={tmp_path / 'command'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = bench.run(*options, results_dir=str(tmp_path / "here")).folder
    other = tmp_path / "command" / "runs" / folder.name
    for file in (WEIGHTS, "episodes.csv"):
        assert (folder / file).read_bytes() == (other / file).read_bytes()


@pytest.mark.parametrize(
    "value", [None, True, 3, 1e-5, [0.5, 0.75], "null", "a, b'\\\\' = c\\", "é ~"]
)
def test_options_reach_the_configuration_as_they_are(value):
    config = configuration(overrides_from({"+mine": value}))
    found = config["mine"]
    assert found == value and type(found) in (type(value), ListConfig)


def test_importing_the_suite_imports_nothing_large():
    code = "import bench, sys; print([m for m in ('torch', 'pandas', 'hydra') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
    with pytest.raises(AttributeError, match="module 'bench' has no attribute 'nothing'"):
        _ = bench.nothing
