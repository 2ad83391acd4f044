"""Trying stored runs under other conditions: what is tried, that it is fair, and mistakes."""

import hydra
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from bench.config import schema
from bench.config.plugins import CONF
from bench.core.errors import UserError
from bench.probe import main
from bench.runs import cell as cells
from bench.runs import run
from bench.runs.probe import probe
from bench.runs.reload import load_cell, parameters
from tests.bench.small import SMALL

OPTIONS = {"maml": ["algo.test_inner_steps=2"], "reptile": ["algo.test_inner_steps=3"]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def results(cache, tmp_path_factory):
    """Small finished runs of the four learners, by name of the learner."""
    root = tmp_path_factory.mktemp("results")
    made = {}
    for algo in ("maml", "reptile", "protonet", "metaoptnet"):
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            options = [f"algo={algo}", "ways=3", "train.ways=3", *OPTIONS.get(algo, [])]
            folders = [f"cache_dir={cache}", f"results_dir={root}"]
            cell = cells.check(
                schema.from_hydra(hydra.compose("config", [*SMALL, *options, *folders]))
            )
        run.run(cell)
        made[algo] = cell
    return made


@pytest.fixture(scope="module")
def tried(results) -> dict[str, pd.DataFrame]:
    return {algo: pd.DataFrame(probe(cell, checkpoint(cell), 12)) for algo, cell in results.items()}


def checkpoint(cell: cells.Cell) -> dict[str, torch.Tensor]:
    return parameters(cell.store, cell.name)


def test_each_learner_is_tried_as_far_as_it_can_be(tried):
    batches = ["support", "support_and_query", "query", "all_queries"]
    for algo, trials in tried.items():
        values = {varied: each["value"].tolist() for varied, each in trials.groupby("varied")}
        adapts = algo in ("maml", "reptile")
        assert values["norm_statistics"] == (batches if adapts else ["running", *batches])
        assert values.get("steps") == (["1", "2", "3", "5", "10", "20", "50"] if adapts else None)
        assert values.get("ways") == (None if adapts else ["2", "3", "5", "10", "15", "20"])
        assert values["shots"][:4] == ["1", "2", "3", "5"]
        assert trials["score"].between(0, 100).all() and trials["episodes"].eq(12).all()


def test_under_the_same_conditions_the_test_is_repeated(results, tried):
    for algo, trials in tried.items():
        record = results[algo].store.record(results[algo].name)
        own = trials[
            (trials["varied"] == "norm_statistics") & (trials["value"] == record["norm_statistics"])
        ]
        assert own["score"].item() == record["score"], algo
        if algo in OPTIONS:
            steps = OPTIONS[algo][0].split("=")[1]
            same = trials[(trials["varied"] == "steps") & (trials["value"] == steps)]
            assert same["score"].item() == record["score"], algo


def test_the_command_writes_trials_and_rebuilds_the_report(results, cache, capsys, undrawn):
    root = results["maml"].store.root
    before = results["maml"].store.record(results["maml"].name)
    assert main([f"results_dir={root}", "episodes=4", f"cache_dir={cache}"]) == 0
    assert "transduction.md" in capsys.readouterr().out
    assert (root / "figures" / "adaptation.png").exists()
    assert set(pd.read_csv(root / "probe.csv")["algo"]) == set(results)
    assert results["maml"].store.record(results["maml"].name) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["episodes=1"], "episodes=1 is invalid"),
        (["episodes=many"], "episodes=many is invalid"),
        (["steps=3"], "Cannot read the argument 'steps=3'"),
        (["results_dir=/nowhere"], "No finished runs under /nowhere"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}") and printed.count("\n") == 1


def test_other_data_and_lost_parameters_are_told(results, cache, tmp_path, capsys):
    cell = results["protonet"]
    folder = tmp_path / "runs" / cell.name
    folder.mkdir(parents=True)
    for name in ("record.json", "config.yaml", "episodes.csv", "model.json"):
        (folder / name).write_text((cell.store.runs / cell.name / name).read_text())
    assert main([f"results_dir={tmp_path}", f"cache_dir={cache}"]) == 2
    assert "model.safetensors is missing: overwrite=true" in capsys.readouterr().err

    folders = {"data_root": None, "cache_dir": cache}
    text = (folder / "record.json").read_text()
    digest = cell.dataset.digest
    (folder / "record.json").write_text(text.replace(digest, "0" * len(digest)))
    with pytest.raises(UserError, match="trained on other data than glyphs is now"):
        load_cell(cells.Store(tmp_path), cell.name, folders)
    (folder / "config.yaml").write_text("algo: 3\n")
    with pytest.raises(UserError, match=r"is of another version: algo=3 is invalid"):
        load_cell(cells.Store(tmp_path), cell.name, folders)
