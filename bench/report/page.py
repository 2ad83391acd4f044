"""Self-contained HTML page of a results folder: the answer first, then the evidence."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from plotly.io import to_html
from plotly.offline import get_plotlyjs

from bench.report import (
    claims,
    interactive,
    photographs,
    recipes,
    shifts,
    tables,
    targets,
    trials,
    tuning,
)
from bench.report.claims import Check
from bench.report.figures.description import Figure, Panel
from bench.report.leaderboard import LEARNERS, LEVEL, MODELS, Leaderboard, Pair
from bench.report.recipes import Cross
from bench.report.rows import (
    DAGGER,
    NETWORK,
    SCORE,
    THROUGHPUT,
    TRANSDUCTIVE_NOTE,
    Comparison,
    Row,
    by_metric,
    comparisons,
    done,
    incompatibilities,
    interval_note,
    is_floor,
    is_timed,
    learners,
    row_order,
    score,
    setting_title,
    shared_facts,
    with_labels,
)
from bench.report.tables import ABSENT, Table
from bench.runs.records import Role, facts, tested_on

CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtons": [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
}
PROVENANCE = facts(Role.PROVENANCE)
MISSING_NOTE = (
    "To fill the gaps, give *python -m bench -m* the options of the other cells and this results folder: "
    "it runs what is missing, with *retry_failed=true* what failed too, and leaves alone what is done."
)
UNDECIDED = "Undecided: one seed"
NUMERIC = re.compile(r"(model )?[*<>+\-−≈ ]*\d[\d.,]*([* ].*|–\d+)?|failed")


@dataclass(frozen=True)
class Details:
    """Collapsed content that a reader can expand."""

    title: str
    tables: Sequence[Table] = ()
    note: str = ""


@dataclass(frozen=True)
class Section:
    """Part of the page under a heading; not shown without figures, tables or details."""

    title: str
    note: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    details: Sequence[Details] = ()

    @property
    def anchor(self) -> str:
        """HTML id made from the title."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.figures or self.tables or any(each.tables for each in self.details))


@dataclass(frozen=True)
class Answer:
    """Recommended learner of one setting, its cost, and how certain that is."""

    title: str
    place: str
    best: str
    verdict: str
    headers: list[str]
    cells: list[list[str]]
    remarks: list[str] = field(default_factory=list)


def html(
    records: Iterable[Row],
    boards: Sequence[Leaderboard],
    curves: Mapping[str, pd.DataFrame],
    probed: trials.Trials,
    shifted: shifts.Shifts,
    classes: photographs.Classes,
    claimed: Sequence[Check],
    crossed: Sequence[Cross],
    by_network: Sequence[tables.Table],
    by_fold: Sequence[tables.Table],
    drawn: Mapping[str, Figure],
) -> str:
    """Return the page with the figures of these names, which does not depend on the order of records."""
    records = sorted(records, key=row_order)
    rows = with_labels(records)
    found = sections(records, boards, curves, probed, shifted, classes, drawn)
    contributions = Section("Learner and recipe", tables=[recipes.table(each) for each in crossed])
    tuned = Section("Tuning", tuning.NOTE, tables=tuning.tuning_tables(records))
    by_networks = Section("Learner and network", tables=list(by_network))
    by_folds = Section("Folds of a data set", tables=list(by_fold))
    found += [by_networks, by_folds, contributions, tuned, published(claimed), *background(records)]
    shown = [compared(records), *found]
    shown = [section for section in shown if not section.empty]
    panels = [panel for s in shown for figure in s.figures for panel in figure.panels]
    numbers = {id(panel): i for i, panel in enumerate(panels)}
    return _template().render(
        subtitle=subtitle(rows),
        summary=summary(boards),
        answers=[answer(board, rows) for board in boards],
        caution=caution(boards),
        places=list(dict.fromkeys(setting_title(row) for row in done(rows))),
        sections=shown,
        reading=reading(rows, boards),
        drawn=lambda figure, panel: _drawn(figure, panel, numbers[id(panel)]),
        plotlyjs=Markup(get_plotlyjs()),
    )


def subtitle(rows: Sequence[Row]) -> str:
    """Return one line on the number of learners, data, settings, and number of seeds."""
    finished = [row for row in done(rows) if not is_floor(row)] or done(rows)
    seeds = len({row["seed"] for row in finished})
    settings = dict.fromkeys(
        f"{row['ways']}-way {row['shots']}-shot"
        for row in sorted(finished, key=lambda row: (row["ways"] or 0, row["shots"]))
    )
    names = {"photographs": "photographs", "episodes": "test episodes"}
    tested = [f"{count:,} {names[unit]}" for count, unit in sorted({*map(tested_on, finished)})]
    return (
        f"{_count(len({row['label'] for row in finished}), 'learner')} on "
        f"{tables.listed(sorted({row['dataset'] for row in finished}))}, {tables.listed(settings)}, "
        f"{_count(seeds, 'seed')} of training, {' or '.join(tested)}, "
        "the same for all that are compared."
    )


def summary(boards: Sequence[Leaderboard]) -> str:
    """Return who is best or tied for best in all settings with several learners.

    Empty for a single setting.
    """
    several = [board for board in boards if board.pairs]
    if len(several) < 2 or not all(board.winners for board in several):
        return ""
    always = [x for x in several[0].winners if all(x in board.winners for board in several)]
    where = "both settings" if len(several) == 2 else f"all {len(several)} settings"
    if not always:
        return f"No learner is best or tied for best in {where}."
    return f"Best or tied for best in {where}: {tables.listed(always)}."


def answer(board: Leaderboard, rows: Iterable[Row]) -> Answer:
    """Return the best learners of a setting with their costs; `rows` show which ones failed.

    With one seed each, these are the top models, and no learner is called best.
    """
    top = board.winners or [entry.label for entry in board.standings if entry.best == 1]
    best = {x: board.comparison.at(x, board.setting) for x in top}
    cells = [
        [label, metric_text(board, seeds), tables.train_time(seeds), _milliseconds(seeds)]
        for label, seeds in best.items()
    ]
    headers = [
        "Learner",
        board.comparison.metric.axis("").strip(),
        "training",
        "adapting, per task",
    ]
    remarks = [_cheapest(best), _unranked(board), _inductive(board), _floor(board)]
    remarks.append(_failed(board, rows))
    return Answer(
        board.title,
        board.place,
        " ≈ ".join(top) if board.winners or not board.pairs else UNDECIDED,
        verdict(board),
        headers,
        cells,
        [remark for remark in remarks if remark],
    )


def verdict(board: Leaderboard) -> str:
    """Return a sentence or two on how certain the best learner of a setting is."""
    if not board.pairs:
        return "The only learner here: nothing to compare it with."
    winners = board.winners
    if not winners:
        text = tables.one_seed(board)
        return text[0].upper() + text[1:]
    pairs = [pair for pair in board.pairs if pair.of == LEARNERS]
    others = sum(entry.of == LEARNERS for entry in board.standings) - len(winners)
    outside = [p for p in pairs if (p.first in winners) != (p.second in winners)]
    clear = all(pair.better for pair in outside)
    if len(winners) > 1:
        among = [p for p in pairs if p.first in winners and p.second in winners]
        widest = max(among, key=lambda pair: pair.difference)
        text = (
            f"Tied: tests over seeds and {board.unit} do not tell them apart; the largest difference is "
            f"{widest.difference:.2f} ± {widest.half:.2f} points"
        )
        if abs(widest.difference) > widest.half:
            text += ", more than its own interval but not significant once corrected for all pairs"
        text += "."
        if all(pair.equivalent for pair in among):
            text += f" They are equivalent within {_count(widest.margin, 'point')}."
        if not others:
            return text
        if clear:
            return f"{text} Each is better than the other {others}."
        return f"{text} Some tie with one of the other {others} as well: see the pairs."
    second = outside[0]
    several = any(entry.of == MODELS for entry in board.standings)
    text = (
        f"Better than the {_count(others, 'other')}{' of several seeds' if several else ''} by tests "
        f"over seeds and {board.unit}."
    )
    if not clear:
        text = "No other is better, but not all are worse: see the pairs."
    return f"{text} Next is {second.second}, {_behind(second)}."


def caution(boards: Sequence[Leaderboard]) -> str:
    """Return what the intervals cover and what the verdicts do not."""
    found = list({id(board.comparison): board.comparison for board in boards}.values())
    text = f"±: {interval_note(found)}."
    if any(board.pairs for board in boards):
        text += " The tests speak of these test classes."
        if any(entry.of == MODELS for board in boards for entry in board.standings):
            text += " With one seed, they speak of models: another training may give another order."
    return text


def sections(
    records: Sequence[Row],
    boards: Sequence[Leaderboard],
    curves: Mapping[str, pd.DataFrame],
    probed: trials.Trials,
    shifted: shifts.Shifts,
    classes: photographs.Classes,
    drawn: Mapping[str, Figure],
) -> list[Section]:
    """Return the sections of results, some of which may be empty."""
    several = [board for board in boards if board.pairs]
    reached = targets.time_to_accuracy_tables(records, curves)

    def figures(*names: str) -> list[Figure]:
        return [drawn[name] for name in names if drawn[name].panels]

    return [
        Section(
            "Leaderboard",
            figures=figures("ranking"),
            tables=[
                *(tables.standing_table(board) for board in boards),
                *tables.aggregate_tables(boards),
            ],
            details=[Details("What the columns mean", note=tables.leaderboard_note(boards))],
        ),
        Section(
            "Scores",
            figures=figures(*(metric.name for metric in by_metric(records))),
            tables=tables.score_tables(records),
        ),
        Section(
            "Pair by pair",
            figures=figures("pairs"),
            details=[Details("All pairs as tables", [tables.pair_table(b) for b in several])],
        ),
        Section(
            "Photographs",
            figures=figures("photographs"),
            tables=photographs.learning_tables(records, probed, classes),
        ),
        Section(
            "Classes",
            tables=photographs.class_tables(records, classes),
            details=[
                Details(
                    "What each class is taken for", photographs.confusion_tables(records, classes)
                )
            ],
        ),
        Section("Score against cost", figures=figures("score_throughput")),
        Section(
            "Learning curves",
            figures=figures("learning_curves_episodes", "learning_curves_seconds"),
            details=[Details("Time to accuracy", reached, targets.note(curves))] if reached else [],
        ),
        Section("Single functions", figures=figures("functions")),
        Section(
            "Adaptation", "The trained learners under other conditions.", figures("adaptation")
        ),
        Section("Transduction gaps", tables=trials.transduction_tables(records, probed)),
        Section(
            "Other data sets",
            figures=figures("shift"),
            tables=shifts.shift_tables(records, shifted),
        ),
        Section(
            "Throughput",
            figures=figures("throughput", "throughput_meta_batch"),
            tables=[*tables.throughput_tables(records), *tables.saturation_tables(records)],
        ),
    ]


def published(claimed: Sequence[Check]) -> Section:
    """Return the section of published accuracies against those of their experiments."""
    return Section(
        "Claimed against measured",
        claims.NOTE,
        tables=[replace(claims.table(claimed), title="Published figures", note="")]
        if claimed
        else [],
        details=[
            Details(
                "What the experiments do otherwise than the papers, and how to run them", note=note
            )
            for note in [" ".join(claims.notes(claimed))]
            if claimed
        ],
    )


def background(records: Sequence[Row]) -> list[Section]:
    """Return the sections on missing cells and on provenance."""
    return [
        Section("Missing and failed cells", MISSING_NOTE, tables=missing(records)),
        Section(
            "Provenance",
            tables=[provenance(records)],
            details=[Details("Cell by cell", [cells_table(records)])],
        ),
    ]


def compared(records: Sequence[Row]) -> Section:
    """Return the section on what was compared, under which protocol, and what was not."""
    apart = " ".join(incompatibilities(records))
    return Section("What was compared", apart, tables=[protocol(c) for c in _compared(records)])


def protocol(comparison: Comparison) -> Table:
    """Return the learners, settings and shared facts of all finished cells of a comparison."""
    rows = done(comparison.rows)
    facts = {
        "learners": ", ".join(comparison.labels),
        "floors": ", ".join(learners(comparison.floors)),
        "settings": ", ".join(comparison.settings),
        "seeds": ", ".join(str(seed) for seed in sorted({row["seed"] for row in rows})),
        "the same for all": shared_facts(rows, SCORE),
        "machine": shared_facts(rows, [f for f in THROUGHPUT if f not in NETWORK]),
    }
    return Table(comparison.title, ["", ""], [[k, v] for k, v in facts.items() if v])


def missing(records: Sequence[Row]) -> list[Table]:
    """Return failed cells, and seeds that a learner lacks but others have, by comparison."""
    found = []
    for comparison in _compared(records):
        lines = []
        for setting in comparison.settings:
            there = [row for row in comparison.rows if row["setting"] == setting]
            for label in comparison.labels:
                mine = [row for row in there if row["label"] == label]
                absent = {row["seed"] for row in there} - {row["seed"] for row in mine}
                if absent:
                    seeds = ", ".join(str(seed) for seed in sorted(absent))
                    lines.append([label, setting, seeds, "not run"])
                lines += [
                    [label, setting, str(row["seed"]), f"failed: {row['reason']}"]
                    for row in mine
                    if row["status"] != "done"
                ]
        if lines:
            found.append(Table(comparison.title, ["Learner", "setting", "seeds", "why"], lines))
    return found


def provenance(records: Sequence[Row]) -> Table:
    """Return the facts that all finished cells share, and the number of values of the others."""
    rows = done(records)
    cells = []
    for fact in PROVENANCE:
        values = sorted({_value(row, fact) for row in rows})
        if len(values) <= 3 and values != [ABSENT]:
            cells.append([fact.replace("_", " "), ", ".join(values)])
        elif len(values) > 3:
            cells.append([fact.replace("_", " "), f"{len(values)} of them, cell by cell below"])
    if when := sorted(row["created"] for row in rows if row.get("created")):
        cells.append(["run", when[0] if len(when) == 1 else f"from {when[0]} to {when[-1]}"])
    return Table("All finished cells", ["", ""], [["cells", str(len(rows))], *cells])


def cells_table(records: Sequence[Row]) -> Table:
    """Return one row per finished cell with the provenance facts in which cells differ."""
    rows = done(records)
    facts = [f for f in PROVENANCE if len({_value(row, f) for row in rows}) > 1]
    facts += ["created"] if any(row.get("created") for row in rows) else []
    cells = [[row["cell"], *(_value(row, fact) for fact in facts)] for row in rows]
    return Table("Cells", ["Cell", *(fact.replace("_", " ") for fact in facts)], cells)


def reading(rows: Sequence[Row], boards: Sequence[Leaderboard]) -> dict[str, str]:
    """Return explanations of marks and numbers, keyed by the mark or number."""
    notes = {"±": caution(boards).removeprefix("±: ")}
    if any(board.pairs for board in boards):
        notes["≈"] = (
            "A tie: on the same episodes, tests corrected for all pairs of the setting do not tell the "
            f"two apart (p of {LEVEL} or more), which is not to say that they are equal."
        )
    if any(row.get("transductive") for row in rows):
        notes["†"] = TRANSDUCTIVE_NOTE.removeprefix("† ")
    notes["Training"] = "The mean over seeds of the time of training, validations not counted."
    notes["Adapting"] = (
        "The time from support images to a classifier, per task, when many tasks are adapted together."
    )
    return notes


def _compared(records: Sequence[Row]) -> list[Comparison]:
    return comparisons(with_labels(records), SCORE)


def _behind(pair: Pair) -> str:
    """Return how far the second of a pair is behind, as text."""
    p = tables.p_text(pair.p_corrected)
    return f"{pair.difference:.2f} ± {pair.half:.2f} points behind (p {p})"


def _cheapest(rows: Mapping[str, Sequence[Row]]) -> str:
    """Return which of several tied learners is cheapest, if all were timed on one machine."""
    every = [row for seeds in rows.values() for row in seeds]
    if len(rows) < 2 or len(comparisons(every, THROUGHPUT)) > 1 or not all(map(is_timed, every)):
        return ""
    fastest = min(rows, key=lambda x: sum(r["train_seconds"] for r in rows[x]) / len(rows[x]))
    times = {x: ms for x, seeds in rows.items() if (ms := tables.adapting(seeds))}
    quickest = min(times, key=lambda x: times[x]) if times else fastest
    if fastest == quickest:
        return f"Cheapest of these: {fastest}."
    return f"Of these, {fastest} trains fastest and {quickest} adapts fastest."


def _unranked(board: Leaderboard) -> str:
    """Return the learners unranked because of a single seed, and those ahead of the best."""
    single = [entry.label for entry in board.standings if entry.of == MODELS]
    if not single or not board.winners:
        return ""
    text = f"Not ranked, with one seed: {tables.listed(single)}."
    if ahead := tables.models_ahead(board):
        text += (
            f" Significantly ahead of {board.winners[0]} as trained models: {tables.listed(ahead)}."
        )
    return text


def _inductive(board: Leaderboard) -> str:
    """Return the best inductive learner, if all of the overall best are transductive."""
    entries = [e for e in board.standings if DAGGER not in e.label]
    if not entries or not board.winners or not all(DAGGER in label for label in board.winners):
        return ""
    best = entries[0]
    found = metric_text(board, board.comparison.at(best.label, board.setting))
    return f"Best of those that are not transductive (†): {best.label}, {found}, rank {best.rank}."


def metric_text(board: Leaderboard, rows: Sequence[Row]) -> str:
    """Return the score of one learner in a setting as text, with its unit."""
    result = score(rows)
    return board.comparison.metric.text(result.mean, result.half)


def _floor(board: Leaderboard) -> str:
    """Return the scores of floors (no training), and the learners not above them."""
    known = [
        f"{entry.label} has {metric_text(board, [row])}"
        for entry, row in zip(board.floors, board.comparison.floors_at(board.setting), strict=True)
    ]
    low = tables.at_the_floor(board)
    return f"Without training, {tables.listed(known)}. {low}".strip() if known else ""


def _failed(board: Leaderboard, rows: Iterable[Row]) -> str:
    """Return the learners of which some or all seeds failed in the setting."""
    failed = [row for row in rows if row["status"] != "done" and setting_title(row) == board.place]
    return f"Failed: {tables.listed(learners(failed))}; see below." if failed else ""


def _milliseconds(rows: Sequence[Row]) -> str:
    spent = tables.adapting(rows)
    return f"{tables.number(spent)} ms" if spent else ABSENT


def _value(row: Row, fact: str) -> str:
    value = row.get(fact)
    return ABSENT if value is None else str(value)


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}" if number == 1 else f"{number:g} {what}s"


def _drawn(figure: Figure, panel: Panel, number: int) -> Markup:
    """Return the HTML element of a panel and the call that draws it."""
    text = to_html(
        interactive.draw(figure, panel),
        config=CONFIG,
        include_plotlyjs=False,
        full_html=False,
        default_height=f"{interactive.height(figure, panel)}px",
        div_id=f"plot-{number}",
        validate=False,
    )
    return Markup(text)


def _weighted(text: str) -> Markup:
    """Return escaped text with *emphasis* and **strong** as HTML, and no line break around ±."""
    safe = str(escape(text)).replace(" ± ", "\u00a0±\u00a0")
    safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
    return Markup(re.sub(r"\*(.+?)\*", r"<em>\1</em>", safe))


def _numeric(place: tuple[Table, int]) -> bool:
    """Return whether a column of a table holds numbers."""
    table, column = place
    cells = [line[column] for line in table.cells]
    return all(cell == ABSENT or NUMERIC.fullmatch(cell) for cell in cells)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["weighted"] = _weighted
    environment.tests["numeric_column"] = _numeric
    return environment.get_template("page.html.jinja")
