"""The campaign of published cells: what comes first, what goes on, what is told."""

import json
import os
import signal

import pytest
from hydra.core.global_hydra import GlobalHydra

from bench.core.errors import UserError
from bench.core.signals import RESUMABLE, Interrupted
from bench.report.claims import Claim
from bench.reproduce import main
from bench.runs import cell as cells
from bench.runs.store import Store
from bench.sweep.reproduce import campaign as campaigns
from bench.sweep.reproduce import run as runs
from bench.sweep.reproduce.campaign import Campaign
from bench.sweep.reproduce.published import Published, Times, chosen
from tests.bench.small import SMALL

HOUR = 3600.0
TINY = dict(option.split("=") for option in SMALL if not option.startswith("throughput"))
TINY |= {"queries": "5", "train.split": "train"}


def published(name: str, hours: float | None, least: float = 0.0) -> Published:
    claim = Claim("Method", "omniglot", f"paper/{name}", "98.0", 600, "", "")
    names = {seed: f"{name}-seed{seed}" for seed in (0, 1, 2)}
    forecast = hours and Times(hours * HOUR, 0.0)
    return Published(claim, [], names, names, 100, least * HOUR, forecast or None)


def order(campaign: Campaign) -> list[str]:
    return [cell.names[seed] for cell, seed in campaign.left()]


def test_first_runs_count_more_than_further_ones_and_cheap_ones_come_first(tmp_path):
    cheap, dear = published("cheap", 0.5), published("dear", 0.9)
    campaign = Campaign(Store(tmp_path), [dear, cheap], None)
    assert order(campaign)[:4] == ["cheap-seed0", "cheap-seed1", "cheap-seed2", "dear-seed0"]
    campaign.verdicts["paper/cheap"] = False
    assert order(campaign)[0] == "dear-seed0", "a first one of 0.9 h, and a further one of 0.5 h"
    dear.forecast = Times(1.1 * HOUR, 0.0)
    assert order(campaign)[0] == "cheap-seed0"
    campaign.verdicts["paper/cheap"] = True
    assert order(campaign)[0] == "dear-seed0", "what has a verdict can wait"


def test_what_takes_over_two_hours_is_run_once(tmp_path):
    campaign = Campaign(Store(tmp_path), [published("a", 1.99), published("b", 2.01)], None)
    assert order(campaign) == ["a-seed0", "a-seed1", "a-seed2", "b-seed0"]
    campaign.given = [0, 2]
    assert order(campaign) == ["a-seed0", "a-seed2", "b-seed0", "b-seed2"]


def test_no_more_is_forecast_than_the_order_needs(tmp_path, monkeypatch):
    """Bounds of 1, 2, 5 and 9 h: the first turns out to take 6, so the next two are asked, too."""
    hours = {"a": 6.0, "b": 7.0, "c": 5.5, "d": 9.5}
    asked = []

    def forecast_of(_, cell):
        asked.append(cell.claim.experiment)
        return Times(hours[cell.claim.experiment.removeprefix("paper/")] * HOUR, 0.0)

    monkeypatch.setattr(campaigns, "forecast_of", forecast_of)
    bounds = zip(hours, (1.0, 2.0, 5.0, 9.0), strict=True)
    each = [published(name, None, least) for name, least in bounds]
    campaign = Campaign(Store(tmp_path), each, None)
    cell, seed = campaign.next()
    assert (cell.claim.experiment, seed) == ("paper/c", 0)
    assert asked == ["paper/a", "paper/b", "paper/c"]
    campaign.passed |= {name for cell in each for name in cell.names.values()}
    assert campaign.next() is None


def test_what_was_begun_counts_as_far_as_it_is_left(tmp_path):
    from bench.core import serialization

    campaign = Campaign(Store(tmp_path), [published("a", 1.0), published("b", 1.5)], None)
    state = {"training": {"loop": {"step": 90}}}
    campaign.store.save_checkpoint("b-seed0", serialization.to_bytes(state))
    assert order(campaign)[0] == "b-seed0"
    assert campaign.remaining(campaign.cells[1], 0) == pytest.approx(0.15 * HOUR)
    (tmp_path / "runs" / "b-seed0" / "checkpoint.pt").write_bytes(b"damaged")
    assert order(campaign)[0] == "a-seed0"


def test_a_training_of_several_cells_counts_for_all_and_is_done_once(tmp_path):
    """Two cells share a training of 2 h; a third one takes 1.5 h. Each evaluation takes 0.25 h."""
    one, other, third = (published(name, hours) for name, hours in (("a", 2), ("b", 2), ("c", 1.5)))
    other.trainings = one.trainings
    for cell in (one, other, third):
        cell.forecast = cell.forecast._replace(evaluation=0.25 * HOUR)
    campaign = Campaign(Store(tmp_path), [third, one, other], None)
    assert order(campaign)[0] == "a-seed0", "2 in 2.5 h, and 1 in 1.75 h"
    assert len(order(campaign)) == 9, "1 h of training each"
    campaign.store.write("a-seed0", {"record.json": "{}"})
    campaign.verdicts["paper/a"] = False
    (campaign.store.trainings / "a-seed0").mkdir(parents=True)
    assert order(campaign)[0] == "b-seed0"
    assert campaign.remaining(other, 0) == 0.25 * HOUR
    assert campaign.remaining(one, 1) == 2.25 * HOUR


def test_cells_are_chosen_by_data_set_learner_or_experiment():
    names = [claim.experiment for claim in chosen("maml")]
    assert "paper/omniglot_maml_5w1s" in names and "paper/cifar_fs_maml_5w5s" in names
    assert not any("fomaml" in name for name in names)
    assert {claim.dataset for claim in chosen("fc100")} == {"fc100"}
    assert len(chosen("paper/omniglot_maml_5w1s")) == len(chosen("omniglot_maml_5w1s")) == 1
    assert len(chosen("omniglot_reptile_transductive")) == 4 and len(chosen("")) > 50
    with pytest.raises(UserError, match="one of .*matchingnet.*omniglot"):
        chosen("mamml")


@pytest.fixture
def command(cache, tmp_path, capsys, monkeypatch):
    """Run a campaign of small cells on glyphs; gives its status and what it printed."""
    monkeypatch.setattr("bench.sweep.forecast.SECONDS", 0.01)

    def reproduce(only: str = "omniglot_matchingnet_5w1s", seeds=(0,), **options: str):
        GlobalHydra.instance().clear()
        folders = {"results_dir": f"{tmp_path}/results", "cache_dir": cache}
        every = {"dataset": "glyphs", **TINY, **folders, **options}
        given = runs.Given(None, only, list(seeds), every)
        status = runs.reproduce(given)
        out, err = capsys.readouterr()
        return status, out + err

    return reproduce


def test_a_campaign_runs_what_is_left_and_measures_no_speed(command, tmp_path):
    status, text = command(seeds=(1, 0))
    assert status == 0 and "Nothing is left to be run." in text
    folders = [path for path in (tmp_path / "results" / "runs").iterdir() if path.is_dir()]
    records = [json.loads((folder / "record.json").read_text()) for folder in folders]
    assert sorted(row["seed"] for row in records) == [0, 1]
    assert all(row["throughput"] == [] and row["train_seconds"] > 0 for row in records)
    assert len(json.loads((tmp_path / "results" / "forecasts.json").read_text())) == 1
    status, text = command(seeds=(1, 0))
    assert status == 0 and "to go" not in text and "forecasting" not in text


def test_a_signal_ends_it_with_what_is_next(command, monkeypatch):
    def interrupted(*_):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(runs, "carry_out", interrupted)
    status, text = command(seeds=(0, 1))
    assert status == RESUMABLE
    assert "2 runs are left. Next:\n  paper/omniglot_matchingnet_5w1s, seed 0: " in text
    assert "2 of them would take " in text


def test_a_run_of_another_process_is_passed_over(command, monkeypatch, tmp_path):
    name = next(iter(cell_names(monkeypatch, command)))
    with Store(tmp_path / "results").claim(name):
        status, text = command()
    assert status == RESUMABLE and f"{name}, or its training, is being run" in text


def cell_names(monkeypatch, command) -> list[str]:
    """The runs that a campaign would carry out, of which none is."""
    seen = []

    def passed(campaign, cell, seed):
        seen.append(cell.names[seed])
        campaign.passed.add(cell.names[seed])

    with monkeypatch.context() as patch:
        patch.setattr(runs, "carry_out", passed)
        command()
    return seen


def test_a_failed_run_is_told_and_not_run_again(command):
    options = {"train.lr": "1e38", "algo.scale": "1e30"}
    for _ in range(2):
        status, text = command(**options)
        assert status == 1 and "paper/omniglot_matchingnet_5w1s, seed 0, failed: " in text
    assert "to go" not in text


def test_data_that_is_not_here_is_left_out_with_a_sentence(command, monkeypatch):
    def load(folders, chosen):
        raise UserError("Cannot download it; put it there")

    monkeypatch.setattr(cells, "load", load)
    status, text = command("miniimagenet")
    assert status == 0
    assert text.count("Left out are the cells of miniimagenet: Cannot download it") == 1


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("until=soon", "until=soon is invalid: it should be a time such as"),
        ("seeds=0,x", "seeds=0,x is invalid: it should be like 0,1,2"),
        ("threads=0", "threads=0 is invalid"),
        ("only=mamml", "only=mamml names no published cell"),
        ("seed=1", "Cannot read the argument 'seed=1'"),
        ("only=", "Cannot read the argument 'only='"),
    ],
)
def test_mistakes(argument, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "nice", lambda _: None)
    assert main([argument, f"results_dir={tmp_path}/r"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {sentence}") and err.count("\n") == 1


def test_help(capsys):
    assert main(["--help"]) == 0
    assert "Usage: python -m bench.reproduce" in capsys.readouterr().out


def test_cells_of_one_training_are_trained_once_and_nothing_of_it_is_left(
    command, tmp_path, monkeypatch
):
    from bench.engine import train

    trained, run = [], train.Training.run

    def counted(training, *arguments):
        yield from run(training, *arguments)
        trained.append(not training.repeating)

    monkeypatch.setattr(train.Training, "run", counted)
    options = {"train.ways": "6", "validation.times": "2"}
    status, text = command("omniglot_protonet", **options)
    assert status == 0, text
    assert sorted(trained) == [False, False, True, True], (
        "5 and 20 ways share one, for each number of shots"
    )
    assert not list((tmp_path / "results" / "trainings").iterdir())
