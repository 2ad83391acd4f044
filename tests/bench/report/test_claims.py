"""Published accuracies against those of their experiments."""

import copy
import math
import re

import numpy as np
import pytest

from bench.config import groups
from bench.config.compose import composed
from bench.config.schema import NOT_IN_DIGEST
from bench.report import build, claims
from tests.bench.report.samples import failed, folder, record
from tools.campaigns.replications import verdicts

PROTONET = "paper/omniglot_protonet_5w1s"
MAML = "paper/omniglot_maml_5w1s"
REPTILE = "paper/omniglot_reptile_5w1s"


@pytest.fixture(scope="module")
def wanted() -> dict:
    return {name: composed(f"experiment={name}") for name in (PROTONET, REPTILE)}


def check(experiment: str, rows: list, configs: dict, spread: float = 2.0) -> claims.Check:
    """What is found of an experiment; accuracies of episodes are one spread above and below the mean."""
    signs = np.resize([1.0, -1.0], 1000)
    found = claims.checks(
        [row | {"scores": row.get("score", 0.0) + spread * signs} for row in rows], configs
    )
    (one,) = [each for each in found if each.claim.experiment == experiment]
    return one


def test_each_published_figure_has_its_experiment_and_each_experiment_its_figure() -> None:
    figures, without = claims.published()
    names = [claim.experiment for claim in figures]
    assert sorted(names) == [
        n for n in groups.names("experiment") if n.startswith("paper/") and "sinusoid" not in n
    ], "all but one whose paper has no table"
    for method in ("MetaOptNet", "ProtoMAML", "Baseline"):
        assert any(method in sentence for sentence in without)
    for claim in figures:
        assert re.fullmatch(r"\d\d\.\d+( ± \d\.\d+)?", claim.printed), claim
        assert re.search(
            r"^as quoted by|\(arXiv \d{4}\.\d{5}(v\d)?\), (Table \d|as quoted by)|ICLR \d{4}\)",
            claim.source,
        )
        assert claim.differs and not claim.differs.endswith(".")


def test_figures_as_printed() -> None:
    """Spot checks against the papers' tables."""
    printed = {
        claim.experiment.removeprefix("paper/").removeprefix("omniglot_"): claim
        for claim in claims.published()[0]
    }
    assert (printed["maml_20w1s"].score, printed["maml_20w1s"].half) == (95.8, 0.3)
    assert (printed["fomaml_20w5s"].score, printed["fomaml_20w5s"].half) == (97.9, 0.1)
    assert (printed["anil_20w1s"].score, printed["anil_20w1s"].half) == (96.2, 0.5)
    assert (printed["metasgd_5w5s"].score, printed["metasgd_5w5s"].half) == (99.93, 0.09)
    assert (printed["cifar_fs_maml_5w1s"].score, printed["cifar_fs_maml_5w1s"].half) == (
        58.9,
        1.9,
    )
    assert printed["cifar_fs_r2d2_5w1s"].printed == "65.3 ± 0.2"  # of the final version
    assert printed["cifar_fs_r2d2_64_5w1s"].printed == "60.0 ± 0.7"  # of an early one
    assert printed["miniimagenet_maml_5w1s"].printed == "48.70 ± 1.84"
    assert printed["miniimagenet_reptile_transductive_5w5s"].printed == "65.99 ± 0.58"
    assert printed["tieredimagenet_metaoptnet_5w5s"].printed == "81.56 ± 0.53"
    assert (printed["fc100_maml_5w5s"].score, printed["fc100_maml_5w5s"].half) == (50.4, 1.0)
    assert (printed["reptile_5w1s"].score, printed["reptile_5w1s"].half) == (95.39, 0.09)
    transductive = printed["reptile_transductive_20w1s"]
    assert (transductive.score, transductive.half) == (89.43, 0.14)
    assert (printed["protonet_20w1s"].score, printed["protonet_20w1s"].half) == (96.0, None)


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        # claimed 98.8; of 1,000 episodes with a deviation of 2, both sides have intervals of 0.124
        ([98.8 - 0.17], "match"),
        ([98.8 - 0.18], "undecided"),
        ([98.8 - 2.77], "undecided"),  # hypot(0.18, 1.96 * sqrt(2)) is 2.778
        ([98.8 - 2.79], "below"),
        ([98.6, 98.6], "undecided"),
        ([96.3, 96.3], "below"),  # hypot(0.18, 1.96 * sqrt(1.5)) is 2.407
        ([90.3, 96.3], "undecided"),  # seeds that differ by more than is plausible
        ([98.6, 98.6, 98.6], "below"),
        ([98.6, 98.5, 98.7], "match"),
        ([94.8, 94.8], "below"),
        ([94.8, 94.8, 97.8], "undecided"),  # a third that is nearer the claim makes it no match
        ([99.1, 99.1, 99.1], claims.ABOVE),
    ],
)
def test_verdict(wanted: dict, accuracies: list[float], verdict: str) -> None:
    rows = [
        record("protonet", seed=seed, score=each, ci95=0.12) for seed, each in enumerate(accuracies)
    ]
    configs = {row["cell"]: wanted[PROTONET] | {"seed": row["seed"]} for row in rows}
    found = check(PROTONET, rows, configs)
    assert found.verdict == verdict
    assert found.decided == (verdict != "undecided")
    assert found.difference == pytest.approx(sum(accuracies) / len(accuracies) - 98.8)


def test_above_says_that_it_is_no_better_than_below() -> None:
    assert "suspicious" in claims.ABOVE and "as suspicious as below" in claims.NOTE


def test_an_interval_is_as_printed_but_not_narrower_than_episodes_allow(wanted: dict) -> None:
    row = record("protonet", score=98.7)
    found = check(PROTONET, [row], {row["cell"]: wanted[PROTONET]}, spread=2.0)
    assert found.claimed_half == pytest.approx(1.96 * 2.0 / math.sqrt(1000), rel=1e-3)
    row = record("reptile", score=95.4, episodes=10_000)
    for spread, half in ((1.0, 0.09), (10.0, 0.196)):
        found = check(REPTILE, [row], {row["cell"]: wanted[REPTILE]}, spread=spread)
        assert found.claimed_half == pytest.approx(half, rel=1e-3)


def test_a_seed_counts_once_wherever_it_was_run(wanted: dict) -> None:
    rows = [
        record("protonet", seed=seed, device=device, cell=f"{seed}-{device}", score=accuracy)
        for seed, device, accuracy in ((0, "cuda", 97.0), (0, "cpu", 98.0), (1, "cuda", 99.0))
    ]
    configs = {row["cell"]: wanted[PROTONET] | {"seed": row["seed"]} for row in rows}
    for order in (rows, rows[::-1]):
        found = check(PROTONET, order, configs)
        assert found.measured is not None
        assert (found.measured.seeds, found.measured.mean) == (2, 98.5)


def test_versions_of_the_code_are_not_taken_together(wanted: dict) -> None:
    rows = [
        record("protonet", seed=seed, score=accuracy, dataset="omniglot") | {"code": code}
        for seed, accuracy, code in ((0, 98.8, "a1"), (1, 98.9, "a1"), (2, 90.0, "b2"))
    ]
    rows = [row | {"cell": f"protonet-{i}"} for i, row in enumerate(rows)]
    configs = {row["cell"]: wanted[PROTONET] for row in rows}
    found = check(PROTONET, rows, configs)
    assert found.measured is not None and found.measured.seeds == 2
    assert found.measured.mean == pytest.approx(98.85) and found.others == ("protonet-2",)
    assert any("Left out" in note and "protonet-2" in note for note in claims.notes([found]))
    newer = {"code": "b2", "created": "2030-01-01T00:00:00+00:00"}
    found = check(PROTONET, [rows[0], rows[2] | newer], configs)
    assert found.others == ("protonet-0",), "of as many seeds, the newer version"


def test_rows_that_do_not_have_the_episodes_of_the_experiment_are_none_of_it(wanted: dict) -> None:
    row = record("protonet", episodes=999)
    assert check(PROTONET, [row], {row["cell"]: wanted[PROTONET]}).verdict == "not run"


@pytest.mark.parametrize("seeds", [3, 10])
def test_exact_replications_match_and_false_ones_do_not(seeds: int) -> None:
    """A sample of the campaign: binomial scores near the ceiling, seeds 0.3 points apart."""
    kind = (98.5, 25, 600, 600)
    assert 180 <= verdicts(seeds, 0.0, 0.3, kind, 200)["match"] <= 199
    assert verdicts(seeds, 4.0, 0.3, kind, 50)["below"] >= 45


def test_few_seeds_decide_no_more_than_they_can() -> None:
    found = verdicts(1, 0.0, 0.6, (98.5, 25, 600, 600), 200)
    assert found["below"] + found["above"] <= 4 and found["undecided"] > 20


def test_only_runs_of_the_very_experiment_count(wanted: dict) -> None:
    row = record("protonet")
    cell = row["cell"]
    assert check(PROTONET, [row], {}).verdict == "not run"
    for key in NOT_IN_DIGEST | {"seed", "device"}:
        other = {k: v for k, v in wanted[PROTONET].items() if k != key}
        assert check(PROTONET, [row], {cell: other}).measured is not None, key
    for group, key, value in [
        ("train", "examples", 7_200_001),
        ("backbone", "filters", 32),
        ("algo", "name", "other"),
    ]:
        other = copy.deepcopy(wanted[PROTONET])
        other[group][key] = value
        assert check(PROTONET, [row], {cell: other}).verdict == "not run", key


def test_seeds_are_taken_together_and_failures_told(wanted: dict) -> None:
    rows = [record("protonet", seed=seed, score=98.0 + seed) for seed in (0, 1)]
    configs = {row["cell"]: wanted[PROTONET] | {"seed": row["seed"]} for row in rows}
    found = check(PROTONET, rows, configs)
    assert found.measured is not None
    assert (found.measured.mean, found.measured.seeds) == (98.5, 2)
    assert "98.50 ± 6.33 (2 seeds)" in claims.claims_markdown([found])
    lost = failed("protonet")
    found = check(PROTONET, [lost], {lost["cell"]: wanted[PROTONET]})
    assert found.verdict == "failed" and "| – | – | failed |" in claims.claims_markdown([found])


def test_the_report_says_what_was_not_run_and_how_to_run_it(tmp_path, caplog, undrawn) -> None:
    build(folder(tmp_path, [record("protonet")]))
    text = (tmp_path / "claimed.md").read_text()
    claimed = [claim for claim in claims.published()[0] if claim.dataset == "omniglot"]
    assert text.count("| – | – | not run |") == len(claimed)
    assert f"| ProtoNet | omniglot, 5-way 1-shot | 98.8 | – | – | not run | {PROTONET} |" in text
    assert f"dry_run=true experiment=paper/omniglot_maml_5w1s,{'paper/omniglot_maml_5w5s'}" in text
    assert not caplog.records


def test_nothing_is_said_of_data_without_published_figures(tmp_path, undrawn) -> None:
    build(folder(tmp_path, [record("protonet", dataset="glyphs")]))
    assert not list(tmp_path.glob("claimed.*"))
