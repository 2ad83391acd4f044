"""The commands as users type them, in processes of their own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins

import bench.sweep as sweep_package
from bench.cli.command import command
from bench.core.signals import RESUMABLE, run_command
from bench.engine.train import OuterLoop
from bench.report import Report
from bench.runs.store import Store
from tests.bench.runs.test_resume import interrupt_at

ROOT = Path(__file__).parent.parent
SMALL = [
    "dataset=glyphs",
    "train.examples=200",
    "backbone.filters=4",
    "validation.times=1",
    "validation.episodes=4",
    "test.episodes=6",
    "throughput.seconds=0.01",
    "device=cpu",
    "floors=[]",
]
HASH_SEED = "7" if os.environ.get("PYTHONHASHSEED") != "7" else "8"
"""Of processes of their own: another one than here."""


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def bench(*arguments: str, cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments, f"cache_dir={cache}"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def here(capsys, monkeypatch, undrawn):
    """The same in this process, which need not import torch again."""

    def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
        GlobalHydra.instance().clear()
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        try:
            status = run_command(command)
        except SystemExit as exited:
            status = exited.code
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return typed


@contextmanager
def one_thread() -> Iterator[None]:
    """As many as processes of their own have: with others, sums are rounded in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_sweep_ends_with_tables_figures_and_a_comparison(tmp_path, cache, here):
    sweep = ["-m", "algo=maml,protonet", "shots=1,2", *SMALL]
    done = bench(*sweep, "seed=0", f"results_dir={tmp_path}", cache=cache, PYTHONHASHSEED=HASH_SEED)
    assert done.returncode == 0, done.stderr
    accuracy = pd.read_csv(tmp_path / "accuracy.csv")
    assert list(accuracy.columns[:10]) == [
        "algo", "dataset", "ways", "shots", "seed",
        "accuracy", "ci95", "episodes", "transductive", "episodes_digest",
    ]  # fmt: skip
    assert len(accuracy) == 4
    assert accuracy.groupby("shots")["episodes_digest"].nunique().tolist() == [1, 1]
    throughput = pd.read_csv(tmp_path / "throughput.csv")
    assert list(throughput.columns[:10]) == [
        "algo", "dataset", "ways", "shots", "device",
        "phase", "tasks_per_s", "examples_per_s", "ms_median", "peak_mib",
    ]  # fmt: skip
    assert len(throughput) == 4 * 5  # cells, phases
    assert {"accuracy.md", "throughput.md", "figures", "runs"} <= {
        p.name for p in tmp_path.iterdir()
    }
    assert len(list((tmp_path / "figures").glob("*.png"))) == 7
    for word in ("MAML", "ProtoNet", "accuracy.csv", "accuracy.png"):
        assert word in done.stdout
    assert "validation" in done.stderr, "progress is shown"
    assert "Traceback" not in done.stderr

    again = here(*sweep, "seed=0", f"results_dir={tmp_path}", f"cache_dir={cache}")
    assert again.stdout.count("is already finished") == 4
    assert pd.read_csv(tmp_path / "accuracy.csv").equals(accuracy)

    elsewhere = tmp_path / "elsewhere"
    with one_thread():
        alone = here("algo=maml", *SMALL, f"results_dir={elsewhere}", f"cache_dir={cache}")
    assert alone.returncode == 0, alone.stderr
    record = pd.read_csv(elsewhere / "accuracy.csv").iloc[0]
    same = accuracy.query("algo == 'maml' and shots == 1").iloc[0]
    assert record["accuracy"] == same["accuracy"], "another process, order and hash seed"
    assert record["episodes_digest"] == same["episodes_digest"]


def test_a_failed_cell_stops_no_sweep_and_shows_in_table_and_status(tmp_path, cache, here):
    done = here(
        "-m", "train.lr=1e38,0.001", "train.optimizer=sgd", *SMALL, f"results_dir={tmp_path}",
        f"cache_dir={cache}",
    )  # fmt: skip
    assert done.returncode == 1
    assert "failed: the training loss became" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(pd.read_csv(tmp_path / "accuracy.csv")["status"]) == ["done", "failed"]


def test_an_error_before_the_first_cell_is_not_hidden_by_the_report(tmp_path, here, monkeypatch):
    def broken(_):
        raise ZeroDivisionError("of a check")

    monkeypatch.setattr("bench.cli.command.check", broken)
    with pytest.raises(ZeroDivisionError, match="of a check"):
        here("algo=protonet", *SMALL, f"results_dir={tmp_path}")


def test_an_error_after_the_last_cell_is_in_the_status(tmp_path, cache, here, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("of the report")

    monkeypatch.setattr("bench.report.command.build", broken)
    for sweep in ([], ["-m"]):
        done = here(
            *sweep, "algo=protonet", *SMALL, f"results_dir={tmp_path}", f"cache_dir={cache}"
        )
        assert done.returncode == 1
        assert "ZeroDivisionError: of the report" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["algo=mamml"], "There is no algo 'mamml'; choose one of anil, "),
        (["logger=tensorbord"], "There is no logger 'tensorbord'; choose one of mlflow, "),
        (["recipe=null"], "There is no recipe 'null'; choose one of adam, "),
        (["-m", "algo=maml,"], "There is no algo ''; choose one of anil, "),
        (
            ["dataset=imagenet"],
            "There is no dataset 'imagenet'; choose one of arm, ",
        ),
        (
            ["experiment=paper/omniglot_mamml"],
            "There is no experiment 'paper/omniglot_mamml'; choose ",
        ),
        (["shot=5"], "There is no option 'shot'; did you mean 'shots'?"),
        (["train.rate=1"], "There is no option 'train.rate'"),
        (["algo.inner_lr=1"], "There is no option 'algo.inner_lr' with these choices"),
        (["shots=many"], "shots=many is invalid: it should be a valid integer."),
        (
            ["dataset.path=~/фото"],
            """quotes of its own within those of the shell: 'dataset.path="~/фото"'.""",
        ),
        (["-m", "launcher=jobs"], "There is no launcher 'jobs'; choose one of joblib, ray"),
        (["-m", "launcher=joblib,ray"], "A sweep has one launcher, not joblib,ray."),
        (["logger=tensorboard,mlflow"], "A sweep has one logger, not tensorboard,mlflow."),
        (["-m", "launcher=joblib", "hydra.launcher.n_jobs=0"], "it should be 1 or more, or -1"),
        (["-m", "launcher=joblib", "hydra.launcher.n_jobs=abc"], "converted to Integer"),
        (["-m", "launcher=joblib", "hydra.launcher.batch_size=abc"], "got: 'abc'."),
        (["-m", "launcher=ray", "+hydra.launcher.ray.remote.cores=2"], "keyword cores for"),
        (["-m", "launcher=ray", "hydra.launcher.ray.init.address=127.0.0.1:1"], "no Ray cluster"),
        (["launcher=joblib"], "launcher=joblib runs the cells of a sweep: add -m."),
        (
            ["-m", "hydra.launcher.n_jobs=2"],
            "is for sweeps with another launcher: add launcher=joblib.",
        ),
        (
            ["-m", "launcher=slurm", "hydra.launcher.timout_min=5"],
            "did you mean 'hydra.launcher.timeout_min'? docs/engines/ lists those of launchers.",
        ),
        (["until=5d"], "until=5d is invalid: it should be a time such as 90s, 170m or 2h"),
        (["-m", "until=-1"], "until=-1 is invalid"),
        (["-m", "until=1m,2m"], "A sweep has one until, not 1m,2m."),
        (["algo=maml,protonet"], "algo=maml,protonet is a sweep of several cells: add -m."),
        (["seed=0,1"], "seed=0,1 is a sweep of several cells: add -m. One list of these is seed=["),
        (["threads=0"], "threads=0 is invalid: it should be greater than or equal to 1."),
        (["-m", "ways=3,1000"], "ways=1000 is more than the"),
        (["-m", "algo=maml,mamml"], "There is no algo 'mamml'"),
    ],
)
def test_a_mistake_gets_one_sentence_before_any_work(tmp_path, cache, here, arguments, sentence):
    done = here(*SMALL, *arguments, f"results_dir={tmp_path}", f"cache_dir={cache}")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.rglob("record.json"))


def test_a_sweep_may_be_asked_for_among_the_overrides(here):
    done = here(*SMALL, "--multirun", "ways=3", "launcher=joblib", "hydra.launcher.n_jobs=0")
    assert done.returncode == 2 and "n_jobs=0 is invalid" in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_cell_that_another_process_runs_again_is_not_finished(
    tmp_path, cache, here, monkeypatch, sweep
):
    monkeypatch.setattr("bench.report.command.build", lambda *_: Report([], [], []))
    options = [*sweep, *SMALL, f"results_dir={tmp_path}", f"cache_dir={cache}"]
    store = Store(tmp_path)
    with store.claim(cell := here(*options, "dry_run=true").stdout.partition(" ")[0]):
        assert here(*options).returncode == RESUMABLE
    done = here(*options)
    assert done.returncode == 0 and "is finished" in done.stdout
    with store.claim(cell):
        done = here(*options, "overwrite=true")
    assert done.returncode == RESUMABLE
    assert "1 of 1 cells is not finished" in done.stdout


def test_a_launcher_that_is_not_installed_is_told_with_how_to_install_it(here, monkeypatch):
    Plugins.instance()  # which finds what is installed
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(launchers, "joblib.yaml", raising=False)
    done = here("-m", "launcher=joblib", *SMALL)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert (
        "launcher=joblib needs packages that are not installed: pip install '.[joblib]'"
        in done.stderr
    )


def test_a_missing_optuna_is_told_with_how_to_install_it(tmp_path, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "bench.sweep.tuning", raising=False)
    monkeypatch.delattr(sweep_package, "tuning", raising=False)
    done = here("-m", "tune=optuna", *SMALL, f"results_dir={tmp_path}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "pip install '.[tune]'" in done.stderr


def test_one_cell_of_joblib_at_a_time_ends_at_a_signal_and_goes_on(
    tmp_path, cache, here, monkeypatch
):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    joblib = ["-m", "launcher=joblib", "hydra.launcher.n_jobs=1", *SMALL, "train.examples=600"]
    joblib += [f"cache_dir={cache}"]
    interrupt_at(monkeypatch, {2})
    with one_thread():
        stopped = here(*joblib, f"results_dir={tmp_path}")
        assert stopped.returncode == RESUMABLE
        assert list(tmp_path.glob("runs/*/checkpoint.pt"))
        again = here(*joblib, f"results_dir={tmp_path}")
    assert again.returncode == 0 and "resumes at step 2 " in again.stdout
    row = pd.read_csv(tmp_path / "throughput.csv").iloc[0]
    assert (row["launcher"], row["threads"]) == ("joblib", 1)


@pytest.mark.parametrize(
    "sweep", [[], ["-m"], ["-m", "launcher=joblib", "hydra.launcher.n_jobs=1"]]
)
def test_a_command_ends_after_its_time_and_goes_on_when_repeated(
    tmp_path, cache, here, monkeypatch, sweep
):
    if "launcher=joblib" in sweep:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    clocks = []

    class Clock:
        """A timer whose time comes after the second training step."""

        def __init__(self, seconds, then, given):
            self.seconds, self.end, self.running = seconds, lambda: then(*given), False
            clocks.append(self)

        def start(self):
            self.running = True

        def cancel(self):
            self.running = False

    def advanced(loop):
        metrics = advance(loop)
        if loop.step == 2 and clocks[-1].running:
            clocks[-1].end()
        return metrics

    advance = OuterLoop.advance
    monkeypatch.setattr(OuterLoop, "advance", advanced)
    monkeypatch.setattr("bench.core.until.threading.Timer", Clock)
    options = [
        *sweep,
        *SMALL,
        "train.examples=600",
        f"results_dir={tmp_path}",
        f"cache_dir={cache}",
    ]
    stopped = here(*options, "until=170m")
    assert stopped.returncode == RESUMABLE, stopped.stderr
    assert [clock.seconds for clock in clocks] == [10_200] and not clocks[0].running
    assert list(tmp_path.glob("runs/*/checkpoint.pt"))
    again = here(*options)
    assert again.returncode == 0 and "resumes at step 2 " in again.stdout
    assert len(clocks) == 1, "no time was given"
    (config,) = tmp_path.glob("runs/*/config.yaml")
    assert "until" not in config.read_text()


def test_a_folder_that_cannot_be_written_is_told_before_any_work(here, cache):
    done = here(*SMALL, "results_dir=/proc/nowhere", f"cache_dir={cache}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert re.match(r"error: Cannot write results to /proc/nowhere .*results_dir=", done.stderr)


def test_a_mistake_is_the_same_in_a_process_of_its_own(tmp_path, cache):
    done = bench("-m", "ways=3,1000", *SMALL, f"results_dir={tmp_path}", cache=cache)
    assert done.returncode == 2
    assert "ways=1000 is more than the" in done.stderr and done.stderr.count("\n") == 1


def test_a_dry_run_tells_the_time_and_runs_nothing(tmp_path, cache, here):
    done = here("-m", *SMALL, f"results_dir={tmp_path}", "dry_run=true", f"cache_dir={cache}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" would take ") == 1
    assert re.search(r"In all \S+ s for 1 cell; nothing was run.", done.stdout)
    assert "machine had a load of " in done.stdout
    assert not list(tmp_path.rglob("record.json")) and not list(tmp_path.glob("*.md"))


def test_a_missing_data_file_is_named_with_its_place(tmp_path, here):
    data = tmp_path / "data"
    done = here(
        *SMALL, "dataset=omniglot", f"data_root={data}", "dataset.url=http://127.0.0.1:9",
        f"results_dir={tmp_path}/r", f"cache_dir={tmp_path}/cache",
    )  # fmt: skip
    assert done.returncode == 2
    for part in (
        "images_background.zip",
        "images_evaluation.zip",
        str(data / "omniglot"),
        "glyphs",
    ):
        assert part in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_damaged_data_file_is_named(tmp_path, here):
    (tmp_path / "omniglot").mkdir()
    (tmp_path / "omniglot" / "images_background.zip").write_bytes(b"no zip")
    done = here(
        *SMALL, "dataset=omniglot", f"data_root={tmp_path}", f"results_dir={tmp_path}/r",
        f"cache_dir={tmp_path}/cache",
    )  # fmt: skip
    assert done.returncode == 2
    assert str(tmp_path / "omniglot" / "images_background.zip") in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_help_and_cfg_job_teach_the_options(here):
    shown = here("--help")
    assert shown.returncode == 0
    for word in (
        "algo=reptile",
        "omniglot",
        "# Support examples per class",
        "results_dir: results",
    ):
        assert word in shown.stdout
    job = here("algo=maml", "shots=5", "--cfg", "job")
    assert job.returncode == 0
    assert "\nshots: 5\n" in job.stdout
    assert "  # Gradient steps of the inner loop in training.\n  inner_steps: 1\n" in job.stdout


@pytest.mark.slow
def test_every_learner_on_the_real_omniglot(omniglot_root, tmp_path, cache, here):
    done = here(
        "-m", "algo=maml,reptile,protonet,metaoptnet", *SMALL, "dataset=omniglot",
        f"results_dir={tmp_path}", f"data_root={omniglot_root}", f"cache_dir={cache}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for word in ("MAML", "Reptile", "ProtoNet", "MetaOptNet"):
        assert word in done.stdout
    rows = pd.read_csv(tmp_path / "accuracy.csv")
    assert set(rows["algo"]) == {"maml", "reptile", "protonet", "metaoptnet"}
    assert (rows["dataset"] == "omniglot").all() and (rows["queries"] == 15).all()
    assert rows["episodes_digest"].nunique() == 1
