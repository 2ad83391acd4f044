"""Claimed vs. measured: published accuracies next to those of their named experiments."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from bench.config.compose import composed
from bench.config.schema import NOT_IN_DIGEST
from bench.report.rows import Row, Score, done, score
from bench.report.tables import ABSENT, Table
from bench.stats.replication import ENOUGH_SEEDS, PLAUSIBLE_SD, verdict

PUBLISHED = Path(__file__).with_name("published.yaml")
# An experiment may be run with several seeds and on any device.
FREE_KEYS = NOT_IN_DIGEST | {"seed", "device"}
HEADERS = ["Method", "setting", "claimed", "measured", "difference", "verdict", "experiment"]
ABOVE = "above (as suspicious as below)"
NOTE = (
    "Test accuracy in %, ± 95 % interval over test episodes, and over training seeds where there are "
    "several. Match: they differ by no more than the luck of training and of episodes allows, the claim "
    f"being one more training (t-interval over {ENOUGH_SEEDS} or more seeds), and no more than a "
    f"deviation of {PLAUSIBLE_SD:g} point over trainings would explain; between the two it is undecided. "
    "With fewer seeds it is undecided, unless the verdict is the same for every spread of trainings up "
    f"to a deviation of {PLAUSIBLE_SD:g} point. A claim's interval is taken as printed, but not narrower "
    "than that of as many episodes as it was tested on, with the spread of ours. Above is as suspicious "
    "as below. A run counts when its configuration is that of the experiment, but for seed and device; "
    "a seed counts once."
)


@dataclass(frozen=True)
class Claim:
    """A published accuracy in percent, ``printed`` with or without its 95 % interval."""

    method: str
    dataset: str
    experiment: str
    printed: str
    episodes: int
    source: str
    differs: str

    @property
    def shape(self) -> tuple[int, int]:
        """Ways and shots, parsed from the name of the experiment."""
        ways, shots = re.findall(r"\d+", self.experiment.rsplit("_", 1)[1])
        return int(ways), int(shots)

    @property
    def score(self) -> float:
        """The number before ±."""
        return float(self.printed.split(" ± ")[0])

    @property
    def half(self) -> float | None:
        """The number after ±, if any."""
        _, *half = self.printed.split(" ± ")
        return float(half[0]) if half else None


@dataclass(frozen=True)
class Check:
    """A claim and its measured score, which is None if no seed has finished."""

    claim: Claim
    measured: Score | None
    claimed_half: float | None
    verdict: str
    """One of match, below, above, undecided, failed, not run."""
    others: tuple[str, ...] = ()
    """Finished runs of other code versions, which are left out."""

    @property
    def setting(self) -> str:
        """The setting as text, e.g. 5-way 1-shot."""
        return "{}-way {}-shot".format(*self.claim.shape)

    @property
    def difference(self) -> float | None:
        """Measured minus claimed accuracy, in points."""
        return self.measured.mean - self.claim.score if self.measured else None

    @property
    def decided(self) -> bool:
        """Whether the verdict is final, so that no more seeds are needed."""
        return self.verdict in ("match", "below", ABOVE)


def published() -> tuple[list[Claim], list[str]]:
    """Return all published accuracies, and sentences on methods that have none."""
    stored = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    claims = [
        Claim(
            figure["method"],
            figure["dataset"],
            experiment,
            printed,
            figure["episodes"],
            figure["source"],
            figure["differs"],
        )
        for figure in stored["figures"]
        for experiment, printed in figure["score"].items()
    ]
    return claims, stored["without"]


def checks(records: Sequence[Row], configs: Mapping[str, Any]) -> list[Check]:
    """Compare each claim on a data set of the records with the runs of its experiment.

    Args:
        records: Rows from `bench.report.rows.with_scores`.
        configs: The stored configuration of each cell.
    """
    datasets = {row["dataset"] for row in records}
    claims = [claim for claim in published()[0] if claim.dataset in datasets]
    found = []
    for claim in claims:
        place = (claim.dataset, *claim.shape)
        runs = [row for row in records if (row["dataset"], row["ways"], row["shots"]) == place]
        if runs:
            experiment = composed(f"experiment={claim.experiment}")
            wanted, episodes = _determining(experiment), experiment["test"]["episodes"]
            runs = [row for row in runs if _determining(configs.get(row["cell"])) == wanted]
            runs = [row for row in runs if row.get("episodes", episodes) == episodes]
        finished, others = of_one_code(done(runs))
        if not finished:
            found.append(Check(claim, None, claim.half, "failed" if runs else "not run"))
            continue
        values = np.stack([row["scores"] for row in finished])
        spread = float(values.std(axis=1, ddof=1).mean())
        half = max(claim.half or 0.0, 1.96 * spread / math.sqrt(claim.episodes))
        judged = verdict(values, claim.score, half)
        judged = ABOVE if judged == "above" else judged
        found.append(Check(claim, score(finished), half, judged, others))
    return found


def of_one_code(rows: Iterable[Row]) -> tuple[list[Row], tuple[str, ...]]:
    """Return the rows, one per seed, of the code version with the most seeds, and the other cells.

    Ties between versions go to the one that ran last.
    """
    by_code: dict[str | None, list[Row]] = {}
    for row in rows:
        by_code.setdefault(row["code"], []).append(row)
    if not by_code:
        return [], ()
    chosen = max(
        by_code.values(),
        key=lambda own: (len({row["seed"] for row in own}), max(row["created"] for row in own)),
    )
    others = tuple(row["cell"] for own in by_code.values() if own is not chosen for row in own)
    return one_a_seed(chosen), others


def one_a_seed(rows: Iterable[Row]) -> list[Row]:
    """Return one row per seed: the same seed on another device is not an independent training."""
    by_seed: dict[int, Row] = {}
    for row in sorted(rows, key=lambda row: (row["seed"], row["device"], row["cell"])):
        by_seed.setdefault(row["seed"], row)
    return list(by_seed.values())


def claims_table(found: Iterable[Check]) -> pd.DataFrame | None:
    """Return one row per claim; None without claims."""
    rows = [
        {
            "experiment": check.claim.experiment,
            "method": check.claim.method,
            "dataset": check.claim.dataset,
            "setting": check.setting,
            "claimed": check.claim.score,
            "claimed_half": check.claim.half,
            "measured": check.measured.mean if check.measured else None,
            "measured_half": check.measured.half if check.measured else None,
            "seeds": check.measured.seeds if check.measured else 0,
            "difference": check.difference,
            "verdict": check.verdict,
            "source": check.claim.source,
        }
        for check in found
    ]
    return pd.DataFrame(rows) if rows else None


def table(found: Iterable[Check]) -> Table:
    """Return a table of all claims, one per line."""
    cells = [
        [
            check.claim.method,
            f"{check.claim.dataset}, {check.setting}",
            check.claim.printed,
            _measured(check),
            ABSENT if check.difference is None else f"{check.difference:+.2f}",
            check.verdict,
            check.claim.experiment,
        ]
        for check in found
    ]
    return Table("Claimed against measured", HEADERS, cells, NOTE)


def notes(found: Sequence[Check]) -> list[str]:
    """Return notes on how experiments differ from the official code, and on missing runs."""
    sentences = []
    methods: dict[tuple[str, str], list[str]] = {}
    for check in found:
        alike = methods.setdefault((check.claim.source, check.claim.differs), [])
        alike += [check.claim.method] if check.claim.method not in alike else []
    sentences += [
        f"{' and '.join(alike)}: {source}. What the experiments do otherwise: {differs}."
        for (source, differs), alike in methods.items()
    ]
    sentences += published()[1]
    if others := [cell for check in found for cell in check.others]:
        sentences.append(
            "Left out, as other versions of the code made them than most seeds of their experiment: "
            f"{', '.join(others)}."
        )
    missing = [check.claim.experiment for check in found if check.verdict == "not run"]
    if missing:
        sentences.append(
            "To learn how long those not yet run would take here, and without dry_run=true to run "
            f"them: python -m bench -m dry_run=true experiment={','.join(missing)}"
        )
    return sentences


def claims_markdown(found: Sequence[Check]) -> str | None:
    """Return the table with its notes as Markdown; None without claims."""
    if not found:
        return None
    return "\n\n".join([table(found).markdown(), *notes(found)]) + "\n"


def _determining(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {k: v for k, v in config.items() if k not in FREE_KEYS} if config is not None else None


def _measured(check: Check) -> str:
    if check.measured is None:
        return ABSENT
    text = f"{check.measured.mean:.2f} ± {check.measured.half:.2f}"
    return f"{text} ({check.measured.seeds} seeds)" if check.measured.seeds > 1 else text
