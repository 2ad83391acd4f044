"""Tables and figures of a results folder, rebuilt from its stored cells alone."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import pandas as pd

from bench.core.atomic import Content, atomic_write
from bench.core.errors import UserError
from bench.report import (
    claims,
    folds,
    leaderboard,
    networks,
    page,
    photographs,
    recipes,
    rows,
    shifts,
    tables,
    targets,
    trials,
    tuning,
)
from bench.report.drawing import image
from bench.report.figures import figures
from bench.report.figures.description import Figure
from bench.report.leaderboard import Leaderboard, leaderboards
from bench.report.rows import Row, done
from bench.runs.records import interval, tested_on
from bench.runs.store import Store

_log = logging.getLogger(__name__)
T = TypeVar("T")


Stores = dict[str, Store]
"""Maps each cell to the store that holds it."""

RESULTS = (
    *("score", "ci95", "loss", "brier", "ece", "episodes_digest"),
    *("val_score", "selected_episode", "train_episodes"),
)
"""Fields that must agree for two runs of a cell to count as the same run."""


def read(results_dir: str | Path, others: Sequence[str] = ()) -> tuple[list[Row], Stores]:
    """Return the readable records of results folders and their stores; warn about unreadable ones.

    A cell that is in several folders with the same numbers counts once; the first folder wins.

    Raises:
        UserError: If no cell has finished, or one is in two folders with different numbers.
    """
    found: dict[str, Row] = {}
    tested: dict[str, pd.DataFrame] = {}
    stores: Stores = {}
    searched = [Store(folder) for folder in (results_dir, *others)]
    for store in searched:
        for record, episodes in _readable(store):
            cell = record["cell"]
            if cell in found:
                _check_same(found[cell], record, stores[cell], store)
            if cell not in found or found[cell]["status"] != "done":
                found[cell], stores[cell] = record, store
                if episodes is not None:
                    tested[cell] = episodes
    records = [found[cell] for cell in sorted(found)]
    for cell, reason in _on_other_episodes(done(records), tested).items():
        _log.warning("Skipped %s: %s", stores[cell].runs / cell / "episodes.csv", reason)
        records = [row for row in records if row["cell"] != cell]
    if not done(records):
        failed = f" ({len(records)} failed)" if records else ""
        raise UserError(
            f"No finished runs under {', '.join(str(store.runs) for store in searched)}{failed}; run "
            "python -m bench first or name another folder with results_dir=..."
        )
    return records, stores


def _readable(store: Store) -> Iterator[tuple[Row, pd.DataFrame | None]]:
    """Yield the records of a results folder, with the test episodes of finished ones."""
    for folder in sorted(path for path in store.runs.glob("*") if path.is_dir()):
        path, episodes = folder / "record.json", None
        try:
            record = store.record(folder.name)
            if record is None and store.checkpoint(folder.name):
                continue  # still running or interrupted
            if record is None:
                raise ValueError("it does not exist")
            if record["status"] == "done":
                own = tested_on(record)[1] == "photographs"
                path = folder / ("photos.csv" if own else "episodes.csv")
                episodes = store.episodes(folder.name)
                _check_episodes(record, episodes)
        except (ValueError, OSError) as error:
            _log.warning("Skipped %s: %s", path, _first_line(error))
        else:
            yield record, episodes


def _check_same(one: Row, other: Row, here: Store, there: Store) -> None:
    """Raise UserError if a cell was finished twice with different numbers."""
    if one["status"] == other["status"] == "done":
        for key in RESULTS:
            if one.get(key) != other.get(key):
                raise UserError(
                    f"{one['cell']} is in {here.root} and in {there.root} with different results ({key} "
                    f"{one.get(key)} and {other.get(key)}), which may come from machines of different "
                    "kinds: move one of the two away."
                )


class Gathered(NamedTuple):
    """Inputs of a report.

    ``stored`` holds the rows as read; in all other fields, labels show differences in ``across``.
    """

    stored: list[Row]
    records: list[Row]
    boards: list[Leaderboard]
    curves: dict[str, pd.DataFrame]
    probed: dict[str, pd.DataFrame]
    shifted: dict[str, pd.DataFrame]
    fitted: dict[str, pd.DataFrame]
    classes: dict[str, pd.DataFrame]
    claimed: list[claims.Check]
    crossed: list[recipes.Cross]
    by_network: list[tables.Table]
    by_fold: list[tuple[rows.Comparison, str, list[folds.OverFolds]]]


class Report(NamedTuple):
    """Paths written, the rows behind them (see ``across``), and the leaderboards."""

    paths: list[Path]
    records: list[Row]
    boards: list[Leaderboard]


def gather(
    results_dir: str | Path,
    across: Collection[str] = (),
    others: Sequence[str] = (),
    margin: float = leaderboard.MARGIN,
) -> Gathered:
    """Read results folders and compute everything that a report shows.

    Raises:
        UserError: See `read`.
    """
    stored, stores = read(results_dir, others)
    tested = {row["cell"]: stores[row["cell"]].episodes(row["cell"]) for row in done(stored)}
    scored = rows.with_scores(stored, tested)
    configs = configurations(stored, stores)
    records = rows.merge_across(scored, across)
    trained = [row for row in done(records) if row.get("train_examples") != 0]
    return Gathered(
        stored,
        records,
        leaderboards(records, tested, margin),
        _each(stores, trained, Store.history, "history.csv", "Left out of the learning curves"),
        _each(stores, done(records), Store.trials, "probe.csv"),
        _each(stores, done(records), Store.shifts, "shift.csv"),
        _each(stores, done(records), Store.functions, "functions.csv"),
        _each(stores, done(records), Store.classes, "classes.csv", "Left out of the classes"),
        claims.checks(scored, configs),
        recipes.factorial_designs(records, tested),
        networks.network_tables(scored),
        folds.over_folds(scored, configs),
    )


def claimed(stored: list[Row], stores: Stores) -> list[claims.Check]:
    """Return the published figures on the data sets of these records, each with its measurement."""
    tested = {row["cell"]: stores[row["cell"]].episodes(row["cell"]) for row in done(stored)}
    return claims.checks(rows.with_scores(stored, tested), configurations(stored, stores))


def configurations(stored: list[Row], stores: Stores) -> dict[str, object]:
    """Return the stored configuration of each cell, unless it cannot be read."""
    without = "Held to no published figure, and counted as no fold"
    return _each(stores, stored, Store.config, "config.yaml", without)


def texts(found: Gathered) -> dict[str, str | None]:
    """Return all views except the page and the figures, by file name; None if nothing to show."""
    stored, records, boards, curves, probed, shifted, _, classes, claimed, crossed = found[:10]
    made = {
        **{metric.name: tables.score_tables(of) for metric, of in rows.by_metric(records).items()},
        "throughput": tables.throughput_tables(records),
        "tuning": tuning.tuning_tables(records),
        "transduction": trials.transduction_tables(records, probed),
        "recipes": [recipes.table(cross) for cross in crossed],
        "networks": found.by_network,
        "folds": folds.fold_tables(found.by_fold),
        "photographs": photographs.learning_tables(records, probed, classes),
        "classes": [
            *photographs.class_tables(records, classes),
            *photographs.confusion_tables(records, classes),
        ],
        "shift": shifts.shift_tables(records, shifted),
    }
    views = {f"{name}.md": tables.joined(each) for name, each in made.items()}
    made["leaderboard"] = [
        each for b in boards for each in (tables.standing_table(b), tables.pair_table(b))
    ]
    made["claimed"] = [claims.table(claimed)] if claimed else []
    for name, each in made.items():
        views[f"{name}.tex"] = tables.latex(table for table in each if table.cells)
    views |= {
        "throughput.md": views["throughput.md"] or "No cell has been timed.\n",
        "saturation.md": tables.joined(tables.saturation_tables(records)),
        "leaderboard.md": tables.leaderboard_markdown(boards),
        "time_to_accuracy.md": targets.time_to_accuracy_markdown(records, curves),
        "claimed.md": claims.claims_markdown(claimed),
    }
    for name, frame in {
        **{m.name: tables.score_table(of, m) for m, of in rows.by_metric(stored).items()},
        "throughput": tables.throughput_table(stored),
        "leaderboard": leaderboard.standings_table(boards),
        "pairs": leaderboard.pairs_table(boards),
        "claimed": claims.claims_table(claimed),
        "classes": photographs.classes_table(records, classes),
        "probe": trials.trials_table(records, probed),
        "shift": shifts.shift_table(records, shifted),
        "folds": folds.fold_table(found.by_fold),
    }.items():
        views[f"{name}.csv"] = None if frame is None else tables.to_csv(frame)
    return views


def views(found: Gathered) -> tuple[dict[str, str | None], dict[str, Figure]]:
    """Return all text files, None if nothing to show, and all figures of a report, by name."""
    drawn = figures(*found[1:8])
    by_fold = folds.fold_tables(found.by_fold)
    made = page.html(
        *found[1:6], found.classes, found.claimed, found.crossed, found.by_network, by_fold, drawn
    )
    return texts(found) | {"report.html": made}, drawn


def build(
    results_dir: str | Path,
    across: Collection[str] = (),
    others: Sequence[str] = (),
    margin: float = leaderboard.MARGIN,
) -> Report:
    """Write the tables and figures/*.png/.pdf that have something to show.

    They cover the cells of the results folder, where they are written, and of ``others``. Rows are
    compared only where their protocols agree, except for differences in ``across``, see
    `bench.report.rows.merge_across`; learners are equivalent within ``margin`` points. The files
    depend on the cells alone: building twice gives the same bytes.

    Raises:
        UserError: See `read`; or the folder cannot be written.
    """
    found = gather(results_dir, across, others, margin)
    written, drawn = views(found)
    contents: dict[str, Content | None] = dict(written)
    for name, figure in drawn.items():
        for kind in ("png", "pdf"):
            contents[f"figures/{name}.{kind}"] = image(figure, kind) if figure.panels else None

    root = Path(results_dir)
    try:
        (root / "figures").mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            if content is None:  # nothing to show now, though an older report may have had it
                (root / name).unlink(missing_ok=True)
            else:
                atomic_write(root / name, content)
    except OSError as error:
        raise UserError(
            f"Cannot write the report to {root} ({error.strerror}); "
            "name a folder you may write to with results_dir=..."
        ) from None
    paths = [root / name for name, content in contents.items() if content is not None]
    return Report(paths, found.records, found.boards)


def _each(
    stores: Stores,
    records: Iterable[Row],
    read: Callable[[Store, str], T | None],
    file: str,
    without: str = "Left out of the probes",
) -> dict[str, T]:
    """Return what ``read`` gives of each cell, unless that is None; warn about unreadable files."""
    found = {}
    for row in records:
        store = stores[row["cell"]]
        try:
            if (each := read(store, row["cell"])) is not None:
                found[row["cell"]] = each
        except (ValueError, OSError) as error:
            path = store.runs / row["cell"] / file
            _log.warning("%s: %s: %s", without, path, _first_line(error))
    return found


def _check_episodes(record: Row, episodes: pd.DataFrame) -> None:
    """Raise ValueError if a record does not match its test episodes, e.g. if one was edited."""
    if len(episodes) != (count := tested_on(record)[0]):
        raise ValueError(f"it does not hold {count} scores")
    groups = record["ways"] or 1
    pattern = rf"\d{{1,9}}( \d{{1,9}}){{{groups - 1}}}"
    for column in ("classes", "groups"):
        if column in episodes and not episodes[column].str.fullmatch(pattern).fillna(False).all():
            raise ValueError(f"its {column} are not {groups} numbers in each episode")
    mean, ci95 = interval(record, episodes["score"])
    for key, value in (("score", mean), ("ci95", ci95)):
        if not math.isclose(record[key], value, rel_tol=1e-6, abs_tol=1e-6):
            raise ValueError(
                f"its {key} is {value:.6f}, but record.json says {record[key]}: one of them was "
                "edited; run the cell again with overwrite=true"
            )


def _on_other_episodes(rows: list[Row], tested: dict[str, pd.DataFrame]) -> dict[str, str]:
    """Return an error by cell for runs whose test episodes do not match their digest.

    The reference is the majority among the runs of one digest; ties go to the first by name.
    """
    wrong: dict[str, str] = {}
    for digest in sorted({row["episodes_digest"] for row in rows}):
        cells = [row["cell"] for row in rows if row["episodes_digest"] == digest]
        for column in ("groups", "classes"):
            found = {cell: tuple(t[column]) for cell in cells if column in (t := tested[cell])}
            if len(set(found.values())) > 1:
                usual, _ = Counter(found.values()).most_common(1)[0]
                other = next(cell for cell in found if found[cell] == usual)
                wrong |= {
                    cell: f"its test episodes have other {column} than those of {other}, though "
                    "both carry the same digest"
                    for cell, seen in found.items()
                    if seen != usual
                }
    return wrong


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
