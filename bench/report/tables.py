"""Tables of the stored rows: CSV for machines, Markdown for papers, plain text for the terminal."""

import json
import math
import re
import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype

from bench.report.leaderboard import LEVEL, MARGIN, MODELS, Leaderboard, Pair, Standing
from bench.report.rows import (
    ALL_FACTS,
    DAGGER,
    SCORE,
    THROUGHPUT,
    TRANSDUCTIVE_NOTE,
    TUNED_NOTE,
    Comparison,
    Row,
    comparisons,
    done,
    interval_note,
    is_of_texts,
    is_timed,
    learners,
    phase_throughput,
    row_order,
    saturation,
    score,
    shared_facts,
    with_labels,
)
from bench.stats import intervals
from bench.tasks.base import Metric

SCORE_LEADING = (
    *("algo", "dataset", "ways", "shots", "seed", "score", "ci95", "episodes"),
    *("transductive", "episodes_digest", "status", "reason"),
)
THROUGHPUT_LEADING = (
    *("algo", "dataset", "ways", "shots", "device", "phase", "tasks_per_s"),
    *("examples_per_s", "ms_median", "peak_mib", "gflop_per_task", "gflop_per_s"),
    *("matmul_share", "power_w", "joules_per_1000_tasks", "seed", "ms_iqr"),
    *("tasks_per_call", "calls", "device_name", "threads", "torch", "cell"),
)
PHASES = ("train", "adapt", "infer")  # shown in readable tables and figures
ORDER = ("draw", "train", "train_alone", "evaluate", "adapt", "infer")  # all, as in the CSV
SATURATED = 0.9
SATURATION_NOTE = (
    "Training, tasks per second, the mean over seeds. Saturated: from this meta-batch on, "
    f"{SATURATED:.0%} of the best rate of its line."
)
STANDINGS = [
    *("Learner", "rank", "score", "± episodes", "± seeds and episodes", "± classes"),
    *("seeds", "episodes", "loss", "Brier", "ECE"),
]
PAIRS = [
    *("Pair", "difference", "± episodes", "± seeds and episodes", "± classes", "p"),
    *("equivalent", "P(better)", "effect size", "episodes needed"),
]
LEADERBOARD_NOTE = (
    "Accuracies, their differences, half-widths of 95 % intervals and ECE are in %; differences of "
    "errors are natural logarithms of their ratio (0.69 is half the error). Each ± names what it "
    "covers: other *episodes* of the same test classes, for these trained models (the usual interval); "
    "other *seeds* of training and other episodes; other *classes* and images as well as all that, where "
    "classes that are alike count as one draw: the forms of a letter, an alphabet, a superclass. "
    "Learners with two or more seeds (or nothing to train) are compared as learners: > is "
    "better, ≈ a tie. With one seed on either side, two *models* are compared, and another training may "
    "give another order: no learner is called better, and rank and p say model. p: of the t-test of the "
    "interval for other seeds and episodes (models: for other episodes), on the same episodes, corrected "
    f"for all pairs of the setting (Holm); {LEVEL} or more is a tie. Rank: from 1 + the number of others "
    "that are significantly better to the number of all less those significantly worse; the order of "
    "ranks need not be that of means. Equivalent: whether two differ by less than {margin} points (% of "
    "an error) "
    "(two one-sided tests, corrected likewise). P(better): probability that one training of the first "
    "beats one of the second on an episode, ties counting half. Effect size: the difference (and the "
    "ends of its interval) in units of the standard deviation over episodes between one training of "
    "each. Episodes needed: to tell two models that differ by so much apart, in 80 % of tests at p < "
    "0.05. "
    "Loss: cross-entropy of the queries (nats). Brier: squared error of their probabilities, 0 to 2. "
    "ECE: expected calibration error, 15 bins, of all queries."
)
PHOTOGRAPHS_NOTE = (
    " Photographs: where all classes are tested, intervals and tests are for other photographs of these "
    "classes, and each photograph counts as an episode does elsewhere, by the jackknife."
)
FLOOR_NOTE = (
    "A floor has nothing to train and no rank: what comparing inputs gives on these episodes."
)
AGGREGATE_NOTE = (
    "Mean rank over the settings (Demšar 2006), and mean score (of errors, minus the natural logarithm) "
    "of the middle half of all runs (Agarwal et al. 2021), with 95 % intervals of a bootstrap over seeds "
    "and episodes of each setting; with one seed, over the episodes of those models alone."
)
ABSENT = "–"
FORMULA = ("=", "+", "-", "@")
EFFICIENCY = "scaling efficiency"
EFFICIENCY_NOTE = (
    f"The {EFFICIENCY} is the training rate of all processes as a share "
    "of as many times that of one."
)
LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "≈": r"$\approx$",
}
WIDTH = 100
# Maximum widths of the columns of the terminal table: 99 in all with two spaces in between.
COLUMNS = (22, 13, 12, 7, 7, 7, 9, 8)


@dataclass(frozen=True)
class Table:
    """A table of texts, in which *emphasis* and **strong** are as in Markdown.

    ``place`` names the data set, ways and shots if the whole table is about one setting.
    """

    title: str
    headers: list[str]
    cells: list[list[str]]
    note: str = ""
    place: str = ""

    def markdown(self) -> str:
        """Return title, table and note as Markdown."""
        title, note = (without_tags(text) for text in (self.title, self.note))
        parts = [f"### {title}", markdown(self.headers, self.cells), note]
        return "\n\n".join(filter(None, parts))


def score_table(records: Iterable[Row], metric: Metric) -> pd.DataFrame:
    """Return one row per cell: results first, then the protocol card; empty numbers if failed.

    The score is in a column of the name of its metric.
    """
    rows = sorted(records, key=row_order)
    card = _card(rows, {*SCORE_LEADING, "metric", "throughput"})
    return _frame(rows, [*SCORE_LEADING, *card]).rename(columns={"score": metric.name})


def throughput_table(records: Iterable[Row]) -> pd.DataFrame:
    """Return one row per cell and phase of `bench.engine.throughput.measure`, if timed."""
    rows = [
        {**row, **entry}
        for row in sorted(records, key=row_order)
        for entry in sorted(row.get("throughput") or [], key=lambda e: ORDER.index(e["phase"]))
    ]
    results = {*SCORE_LEADING, *THROUGHPUT_LEADING, "metric", "throughput"}
    return _frame(rows, [*THROUGHPUT_LEADING, *_card(rows, results)])


def to_csv(frame: pd.DataFrame) -> str:
    """Return CSV text; floats keep all digits needed for an exact round trip.

    Text that a spreadsheet would interpret as a formula is prefixed with an apostrophe.
    """

    def plain(value: object) -> object:
        return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value

    frame = frame.copy()
    for column in frame:
        if not is_numeric_dtype(frame[column]):
            frame[column] = frame[column].map(plain)
    return frame.to_csv(index=False, lineterminator="\n")


def score_tables(records: Iterable[Row]) -> list[Table]:
    """Return tables of learners by settings, one for each data set and protocol."""
    tables = []
    for comparison in comparisons(with_labels(records), SCORE):
        trained = [
            [label, *(cell_text(comparison, label, s) for s in comparison.settings)]
            for label in comparison.labels
        ]
        floors = [
            [f"*{label}*", *(floor_text(comparison, label, s) for s in comparison.settings)]
            for label in learners(comparison.floors)
        ]
        cells = floors + trained if is_of_texts(comparison.rows) else trained + floors
        headers = ["Learner", *comparison.settings]
        tables.append(Table(comparison.title, headers, cells, _score_caption(comparison)))
    return tables


def latex(tables: Iterable[Table]) -> str | None:
    """Return LaTeX tables (with booktabs), each with its caption; None without tables."""
    return "\n".join(map(_latex, tables)) or None


def _latex(table: Table) -> str:
    cells = [[_escaped(cell) for cell in line] for line in table.cells]
    return pd.DataFrame(cells, columns=[_escaped(each) for each in table.headers]).to_latex(
        index=False,
        escape=False,
        column_format="l" + "r" * (len(table.headers) - 1),
        caption=_escaped(f"{table.title}. {table.note}" if table.note else table.title),
    )


def throughput_tables(records: Iterable[Row]) -> list[Table]:
    """Return tables of throughput, learners by settings, one per data set and machine."""
    timed = [row for row in done(with_labels(records)) if row.get("throughput")]
    tables = []
    for comparison in comparisons(timed, THROUGHPUT):
        cells, note = [], "Tasks per second: train / adapt / infer, the mean over seeds."
        for label in comparison.labels:
            found = [comparison.at(label, setting) for setting in comparison.settings]
            cells.append([label, *map(_rates_text, found)])
            shares = [phase_throughput(rows, "train", "scaling_efficiency") for rows in found]
            if any(shares):
                cells.append([f"{label}, {EFFICIENCY}", *map(_share_text, shares)])
        if len(cells) > len(comparison.labels):
            note += f" {EFFICIENCY_NOTE}"
        facts = _sentence(shared_facts(comparison.rows, THROUGHPUT))
        headers = ["Learner", *comparison.settings]
        tables.append(Table(comparison.title, headers, cells, f"{note} {facts}"))
    return tables


def leaderboard_markdown(boards: Sequence[Leaderboard]) -> str:
    """Return Markdown of standings and pairs, two tables per setting, with column notes below."""
    parts = []
    for board in boards:
        parts.append(standing_table(board).markdown())
        if board.pairs:
            pairs = pair_table(board)
            parts.append(markdown(pairs.headers, pairs.cells))
    parts += [table.markdown() for table in aggregate_tables(boards)]
    tuned = any(row.get("tuning") for board in boards for row in board.comparison.rows)
    notes = [FLOOR_NOTE] * any(board.floors for board in boards) + [TUNED_NOTE] * tuned
    return "\n\n".join([*parts, leaderboard_note(boards), *notes]) + "\n"


def leaderboard_note(boards: Iterable[Leaderboard]) -> str:
    """Return an explanation of the columns of standings and pairs, with the tests' margin."""
    boards = list(boards)
    margins = [pair.margin for board in boards for pair in board.pairs]
    note = LEADERBOARD_NOTE.format(margin=f"{margins[0] if margins else MARGIN:g}")
    return note + PHOTOGRAPHS_NOTE * any(board.unit == "photographs" for board in boards)


def standing_table(board: Leaderboard) -> Table:
    """Return the learners of a setting in the order of the standings, and the floors.

    The floors of texts come first, others last.
    """
    entries = [*board.standings, *board.floors]
    if is_of_texts(board.comparison.rows):
        entries = [*board.floors, *board.standings]
    points = number if board.comparison.metric.scale == "log" else _fixed
    standings = [
        [
            entry.label,
            entry.rank,
            points(entry.score),
            points(entry.ci95_episodes),
            points(entry.ci95_seeds_and_episodes),
            points(_over_classes(entry)),
            str(entry.seeds) if entry.best else ABSENT,
            str(entry.episodes),
            _fixed(entry.loss, 3),
            _fixed(entry.brier, 3),
            _fixed(entry.ece),
        ]
        for entry in entries
    ]
    headers = [header.replace("episodes", board.unit) for header in STANDINGS]
    return Table(board.title, headers, standings, at_the_floor(board), board.place)


def pair_table(board: Leaderboard) -> Table:
    """Return a table of all pairs of learners of a setting."""
    pairs = [
        [
            f"{pair.first} {sign(pair)} {pair.second}",
            _fixed(pair.difference),
            _fixed(pair.ci95_episodes),
            _fixed(pair.ci95_seeds_and_episodes),
            _fixed(_over_classes(pair)),
            p_of(pair),
            equivalence(pair),
            _fixed(pair.first_better),
            f"{_fixed(pair.effect_size)} ({_fixed(pair.effect_low)} to {_fixed(pair.effect_high)})",
            f"{pair.episodes_to_separate:,.0f}",
        ]
        for pair in board.pairs
    ]
    headers = [header.replace("episodes", board.unit) for header in PAIRS]
    return Table(board.title, headers, pairs, place=board.place)


def aggregate_tables(boards: Sequence[Leaderboard]) -> list[Table]:
    """Return tables of learners over all settings of a comparison, if it has several."""
    tables = []
    for comparison in {id(board.comparison): board.comparison for board in boards}.values():
        settings = comparison.settings
        cells = {x: [comparison.at(x, setting) for setting in settings] for x in comparison.labels}
        everywhere = {label: rows for label, rows in cells.items() if all(rows)}
        if len(settings) < 2 or len(everywhere) < 2:
            continue
        runs = [
            [comparison.metric.merits(np.stack([row["scores"] for row in rows])) for rows in each]
            for each in everywhere.values()
        ]
        middles, ranks = intervals.aggregates(runs)
        lines = [
            [label, _with_ends(rank), _with_ends(middle), _seeds(everywhere[label])]
            for label, middle, rank in zip(everywhere, middles, ranks, strict=True)
        ]
        title = f"{comparison.title}, all {len(settings)} settings"
        headers = ["Learner", "mean rank", "interquartile mean", "seeds"]
        tables.append(Table(title, headers, lines, AGGREGATE_NOTE))
    return tables


def _with_ends(found: NDArray[np.float64]) -> str:
    value, low, high = found
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _seeds(cells: Sequence[Sequence[Row]]) -> str:
    counts = sorted({len(rows) for rows in cells})
    return " or ".join(str(count) for count in counts)


def sign(pair: Pair) -> str:
    """Return > for a better learner, ≈ for a tie, / between two models."""
    if pair.of == MODELS:
        return "/"
    return ">" if pair.better else "≈"


def p_of(pair: Pair) -> str:
    """Return the corrected p of a pair as text, marked if it is of two models only."""
    p = p_text(pair.p_corrected)
    return f"{p} (models)" if pair.of == MODELS else p


def equivalence(pair: Pair) -> str:
    """Return whether a pair is equivalent within its margin, as text; a dash if it differs."""
    if pair.equivalent:
        return f"within {pair.margin:g}{' (models)' if pair.of == MODELS else ''}"
    return ABSENT if pair.significant else "undecided"


def winners(boards: Iterable[Leaderboard]) -> str:
    """Return a line per setting with several learners: who is best, or why no one is."""
    boards = list(boards)
    several = [board for board in boards if board.pairs]
    lines = [_winners(board) for board in several]
    lines += [f"{board.title}: {low}" for board in boards if (low := at_the_floor(board))]
    for unit in sorted({board.unit for board in several if board.winners}):
        lines.append(f"By tests over seeds and {unit}, on these test classes; see leaderboard.md.")
    return "\n".join(lines)


def at_the_floor(board: Leaderboard) -> str:
    """Return a sentence on learners no better than a floor of their setting, or an empty string."""
    low = board.comparison.at_the_floor(board.setting)
    names = " and ".join(entry.label for entry in board.floors)
    return (
        f"Not above the floor, {names}, by more than its interval: {', '.join(low)}." if low else ""
    )


def listed(texts: Iterable[str]) -> str:
    """Return texts as an enumeration, such as ``a, b and c``."""
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last


def _winners(board: Leaderboard) -> str:
    single = [entry.label for entry in board.standings if entry.of == MODELS]
    if not board.winners:
        return f"No learner is called best at {board.title}: {one_seed(board)}"
    best, *tied = board.winners
    if tied:
        ties = f", tied with {listed(tied)}"
    elif board.standings[0].worst == 1:
        ties = ", better than all others" + (" of several seeds" if single else "")
    else:
        ties = ", which none is better than, though not all are worse"
    unranked = f" Of one seed, and so not ranked: {', '.join(single)}." if single else ""
    if ahead := models_ahead(board):
        unranked += f" Significantly ahead of {best} as trained models: {', '.join(ahead)}."
    return f"Best at {board.title}: {best}{ties}.{unranked}"


def models_ahead(board: Leaderboard) -> list[str]:
    """Return the single-seed models that are significantly ahead of the best learner."""
    single = {entry.label for entry in board.standings if entry.of == MODELS}
    best = board.winners[:1]
    return [
        p.first for p in board.pairs if p.significant and p.first in single and [p.second] == best
    ]


def one_seed(board: Leaderboard) -> str:
    """Return why a setting has no ranking of learners, and what is known of the models."""
    top = [entry.label for entry in board.standings if entry.best == 1]
    found = (
        f"{top[0]} has the best score"
        if len(top) == 1
        else f"{listed(top)} are not told apart at the top"
    )
    return (
        f"with one seed, it is trained models that are compared, and another training may give another "
        f"order. Of these models, {found}. Two or more seeds compare learners: seed=0,1,2."
    )


def saturation_tables(records: Iterable[Row]) -> list[Table]:
    """Return tables of training tasks/s by meta-batch, one per setting with several."""
    tables = []
    for comparison, setting, rates in saturation(records):
        sizes = sorted({size for each in rates.values() for size in each})
        cells = [
            [label, *(number(each.get(size)) for size in sizes), _saturated(each)]
            for label, each in rates.items()
        ]
        facts = _sentence(shared_facts(comparison.rows, THROUGHPUT))
        headers = ["Meta-batch", *map(str, sizes), "saturated at"]
        title, place = f"{comparison.title}, {setting}", comparison.place(setting)
        tables.append(Table(title, headers, cells, f"{SATURATION_NOTE} {facts}", place))
    return tables


def terminal_table(records: Iterable[Row]) -> str:
    """Return the comparison printed at the end of a run, at most 100 columns wide."""
    parts = []
    for comparison in comparisons(with_labels(records), ALL_FACTS):
        headers = [
            "learner",
            "setting",
            comparison.metric.axis("").strip(),
            "trans-ductive",
            "train tasks/s",
            "adapt tasks/s",
            f"infer {comparison.rows[0].get('examples', 'images')}/s",
            "training time",
        ]
        lines = []
        for setting in comparison.settings:
            trained = []
            for label in comparison.labels:
                rows = comparison.at(label, setting)
                if rows or comparison.at(label, setting, "failed"):
                    trained.append(
                        [
                            label.replace(DAGGER, ""),
                            setting,
                            cell_text(comparison, label, setting),
                            _yes_no(rows),
                            number(phase_throughput(rows, "train")),
                            number(phase_throughput(rows, "adapt")),
                            number(phase_throughput(rows, "infer", "examples_per_s")),
                            train_time(rows),
                        ]
                    )
            floors = [
                [f"{row['label']}, a floor", setting, floor_text(comparison, row["label"], setting),
                 "no", *[ABSENT] * 4]
                for row in comparison.floors_at(setting)
            ]  # fmt: skip
            lines += floors + trained if is_of_texts(comparison.rows) else trained + floors
        table = _columns([headers, *lines])
        facts = f"±: {interval_note([comparison])}. " if done(comparison.rows) else ""
        facts += _sentence(shared_facts(comparison.rows, ALL_FACTS))
        facts += f" {failures(comparison)}"
        notes = textwrap.fill(facts.strip(), WIDTH)
        parts.append(f"{textwrap.fill(comparison.title, WIDTH)}\n{table}\n{notes}")
    return "\n\n".join(parts)


def cell_text(comparison: Comparison, label: str, setting: str) -> str:
    """Return a table cell as '95.3 ± 0.4', 'failed', or a dash if nothing was run."""
    rows = comparison.at(label, setting)
    failed = len(comparison.at(label, setting, "failed"))
    if not rows:
        return "failed" if failed else ABSENT
    result = score(rows)
    remarks = [f"{result.seeds} seeds"] if result.seeds > 1 else []
    remarks += [f"{failed} failed"] if failed else []
    text = comparison.metric.number(result.mean, result.half)
    return f"{text} ({', '.join(remarks)})" if remarks else text


def floor_text(comparison: Comparison, label: str, setting: str) -> str:
    """Return a floor as '42.7 ± 1.0', or a dash if it was not run."""
    rows = [row for row in comparison.floors_at(setting) if row["label"] == label]
    if not rows:
        return ABSENT
    result = score(rows)
    return comparison.metric.number(result.mean, result.half)


def chance(comparison: Comparison) -> str:
    """Return the chance level of accuracies, as 'chance is 20 % at 5 ways'; else empty."""
    ways = sorted({row["ways"] for row in comparison.rows if row["ways"]})
    if not ways or comparison.metric.name != "accuracy":
        return ""
    return f"chance is {' and '.join(f'{100 / n:.3g} % at {n} ways' for n in ways)}"


def failures(comparison: Comparison) -> str:
    """Return a sentence that lists the failed cells with reasons, or an empty string."""
    failed = [
        f"{row['cell']} ({str(row['reason']).rstrip('.')})"
        for row in comparison.rows
        if row["status"] != "done"
    ]
    return f"Failed: {'; '.join(failed)}." if failed else ""


def number(value: float | None) -> str:
    """Return a number with at least three significant digits: 4.56, 51.2, 4,096."""
    if value is None or math.isnan(value):
        return ABSENT
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def _escaped(text: str) -> str:
    """Escape text for LaTeX, with *emphasis* and **strong** as commands."""
    safe = "".join(LATEX.get(letter, letter) for letter in text)
    safe = re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", safe)
    return re.sub(r"\*(.+?)\*", r"\\emph{\1}", safe)


def _score_caption(comparison: Comparison) -> str:
    sentences = []
    if finished := done(comparison.rows):
        metric = comparison.metric
        unit = f" in {metric.unit}" if metric.unit else ""
        sentences.append(f"Test {metric.label}{unit}; ±: {interval_note([comparison])}.")
        sentences.append(
            "In each column all learners are tested on the same episodes"
            + (f"; {level}." if (level := chance(comparison)) else ".")
        )
        sentences += [FLOOR_NOTE] if comparison.floors else []
        sentences += [
            f"Not above the floor by more than the interval at {setting}: {', '.join(low)}."
            for setting in comparison.settings
            if (low := comparison.at_the_floor(setting))
        ]
        sentences.append(_sentence(shared_facts(finished, SCORE)))
        if any(row["transductive"] for row in finished):
            sentences.append(TRANSDUCTIVE_NOTE)
        if any(row.get("tuning") for row in finished):
            sentences.append(TUNED_NOTE)
    sentences.append(failures(comparison))
    return " ".join(filter(None, sentences))


def _fixed(value: float | None, digits: int = 2) -> str:
    return ABSENT if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.00


def _over_classes(found: Standing | Pair) -> float | None:
    """Return the half-width that includes classes, never below the one that does not.

    With few seeds, its estimate could be narrower.
    """
    return None if found.ci95_classes is None else max(found.half, found.ci95_classes)


def p_text(value: float) -> str:
    """Return a p-value as text."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _rates_text(rows: Sequence[Row]) -> str:
    rates = [number(phase_throughput(rows, phase)) for phase in PHASES]
    return " / ".join(rates) if rows else ABSENT


def _share_text(share: float | None) -> str:
    return ABSENT if share is None else f"{share:.2f}"


def _saturated(rates: Mapping[int, float]) -> str:
    """Return the smallest meta-batch near the best rate; with '>' if it is the last of several."""
    enough = SATURATED * max(rates.values())
    size = min(size for size, value in rates.items() if value >= enough)
    return f"> {size}" if len(rates) > 1 and size == max(rates) else str(size)


def adapting(rows: Sequence[Row]) -> float | None:
    """Return ms per task to adapt a batch of tasks, the mean over seeds; None if untimed."""
    speed = phase_throughput(rows, "adapt")
    return 1000 / speed if speed else None


def train_time(rows: Sequence[Row]) -> str:
    """Return the mean training time over seeds as text, from rows whose speed was measured."""
    timed = [row["train_seconds"] for row in rows if is_timed(row)]
    seconds = statistics.fmean(timed) if timed else 0.0
    return duration(seconds) if seconds else ABSENT  # zero if nothing was trained


def _yes_no(rows: Sequence[Row]) -> str:
    if not rows:
        return ABSENT
    return "yes" if rows[0]["transductive"] else "no"


def duration(seconds: float) -> str:
    """Return a duration as text: 3.4 s, 12m 05s, 2h 07m, 52 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{int(seconds) // 60}m {int(seconds) % 60:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m" if minutes < 48 * 60 else f"{minutes // 60:,} h"


def _sentence(facts: str) -> str:
    return f"{facts[0].upper()}{facts[1:]}." if facts else ""


def _columns(lines: Sequence[Sequence[str]]) -> str:
    """Return aligned text columns with a header line; long cells wrap, numbers align right."""
    wrapped = [
        [textwrap.wrap(cell, width) for cell, width in zip(line, COLUMNS, strict=True)]
        for line in lines
    ]
    widths = [
        max(len(text) for cell in column for text in cell) for column in zip(*wrapped, strict=True)
    ]
    printed = []
    for line in wrapped:
        for texts in zip_longest(*line, fillvalue=""):
            cells = (
                text.rjust(width) if i >= 4 else text.ljust(width)
                for i, (text, width) in enumerate(zip(texts, widths, strict=True))
            )
            printed.append("  ".join(cells).rstrip())
        if line is wrapped[0]:
            printed.append("  ".join("-" * width for width in widths))
    return "\n".join(printed)


def joined(tables: Sequence[Table]) -> str | None:
    """Return tables as the text of a Markdown file; None without tables."""
    return "\n\n".join(table.markdown() for table in tables) + "\n" if tables else None


def markdown(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are right-aligned."""
    rule = ["---", *("---:" for _ in headers[1:])]
    lines = [[cell.replace("|", r"\|") for cell in line] for line in [headers, rule, *cells]]
    return without_tags("\n".join(f"| {' | '.join(line)} |" for line in lines))


def without_tags(text: str) -> str:
    """Escape Markdown text so that HTML tags show literally."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def _card(rows: Sequence[Row], without: set[str]) -> list[str]:
    """Return the keys of the rows except ``without``, in the order of the first finished row."""
    keys = dict.fromkeys(key for row in done(rows) + list(rows) for key in row)
    return [key for key in keys if key not in without]


def _frame(rows: Sequence[Row], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {column: _typed([row.get(column) for row in rows]) for column in columns}, columns=columns
    )


def _typed(values: list[object]) -> pd.Series:
    """Return a nullable column of one type, so that 1000 with gaps does not become 1000.0."""
    kinds = {type(value) for value in values if value is not None}
    if any(type(value) is int and abs(value) >= 2**63 for value in values):
        kinds = set()  # unknown facts may exceed int64
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean")
    if kinds == {int}:
        return pd.Series(values, dtype="Int64")
    if kinds and kinds <= {int, float}:
        return pd.Series(values, dtype="Float64")
    texts = [json.dumps(value) if isinstance(value, dict | list) else value for value in values]
    return pd.Series(texts, dtype=object)
