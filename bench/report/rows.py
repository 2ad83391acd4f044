"""Grouping of rows into fair comparisons, their labels, and aggregates over seeds."""

import re
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from algorithms.learner import Setting
from bench.runs.records import Role, facts, tested_on, usual_values
from bench.stats import intervals
from bench.tasks.base import Metric

Row = dict[str, Any]

NAMES = {
    "prototypes": "Prototypes",
    "maml": "MAML",
    "reptile": "Reptile",
    "protonet": "ProtoNet",
    "metaoptnet": "MetaOptNet",
    "metaoptnet_rr": "MetaOptNet-RR",
    "fomaml": "FOMAML",
    "anil": "ANIL",
    "metasgd": "Meta-SGD",
    "protomaml": "ProtoMAML",
    "r2d2": "R2D2",
    "matchingnet": "MatchingNet",
    "baseline": "Baseline",
    "baselinepp": "Baseline++",
    "cnp": "CNP",
    "attention": "Attention",
    "finetune": "Fine-tuning",
    "pooled": "Pooled",
    "maml_rl": "MAML",
    "fomaml_rl": "FOMAML",
    "reptile_rl": "Reptile",
    "pretrained_rl": "Pretrained",
    "centroid": "Centroid",
    "knn": "kNN",
    "ridge": "Ridge",
    "svm": "SVM",
    "logistic": "Logistic regression",
    "nearest": "Nearest centroid",
    "nearest_hog": "Nearest centroid",
    "nearest_neighbor": "Nearest neighbour",
}
"""Names of algorithms as in their papers, in the order of tables and legends."""

# Rows are compared only if these agree.
NETWORK = facts(Role.NETWORK)
SCORE = facts(Role.NETWORK, Role.SCORE)
THROUGHPUT = facts(Role.NETWORK, Role.SPEED)
ALL_FACTS = facts(Role.NETWORK, Role.SCORE, Role.SPEED)
RECIPE = facts(Role.RECIPE)
# Rows of one algorithm and setting that differ in any of these, or in its options, get separate labels.
VARIANT = facts(Role.VARIANT, Role.RECIPE)
DEFAULTS = usual_values()
"""Usual values, which are not shown; rows that lack a fact have it."""
# Only rows that differ in these can still be compared: with other data or another number of test
# episodes, the episodes differ.
ACROSS = tuple(field for field in ALL_FACTS if field not in ("data_digest", "episodes"))
OF_TRAINING = {"train_examples", "tuning"}
"""Facts that mean nothing without training."""
PRETRAINED = ("pretrained", "backbone", "backbone_options")
"""Facts that differ where pretrained networks do."""
EPISODES = ", episodes "
DAGGER = " †"
TUNED_NOTE = (
    "Tuned: options were chosen by trials on validation episodes; tuning.md tells at which cost."
)
TRANSDUCTIVE_NOTE = "† transductive: a prediction may depend on the other queries of its episode."


@dataclass(frozen=True)
class Score:
    """Score of one learner in one setting.

    One seed: the 95 % half-width over test episodes. Several: the mean over seeds and its 95 %
    half-width over seeds and episodes.
    """

    mean: float
    half: float
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """Rows of one data set under one protocol; each has a `label` and a `setting`.

    ``floors`` are rows of algorithms without training on the same test episodes; they are not
    ranked.
    """

    title: str
    rows: list[Row]
    floors: Sequence[Row] = ()

    @property
    def metric(self) -> Metric:
        """The metric of all rows."""
        return metric_of(self.rows[0])

    @property
    def labels(self) -> list[str]:
        """The learners, in the order of all tables and legends."""
        return learners(self.rows)

    @property
    def settings(self) -> list[str]:
        """The settings, sorted by ways and shots."""
        ordered = sorted(
            self.rows, key=lambda row: (row["ways"] or 0, row["shots"], row["setting"])
        )
        return list(dict.fromkeys(row["setting"] for row in ordered))

    def place(self, setting: str) -> str:
        """Return the `setting_title` of the rows of a setting."""
        return setting_title(next(row for row in self.rows if row["setting"] == setting))

    def at(self, label: str, setting: str, status: str = "done") -> list[Row]:
        """Return the rows (one per seed) of one learner in one setting."""
        wanted = (label, setting, status)
        return [r for r in self.rows if (r["label"], r["setting"], r["status"]) == wanted]

    def floors_at(self, setting: str) -> list[Row]:
        """Return the floors of a setting, one per label."""
        found = {row["label"]: row for row in reversed(self.floors) if row["setting"] == setting}
        return [found[label] for label in sorted(found)]

    def at_the_floor(self, setting: str) -> list[str]:
        """Return the learners that are not significantly above every floor of a setting."""
        floors = self.floors_at(setting)
        tested = {label: rows for label in self.labels if (rows := self.at(label, setting))}
        return [x for x, rows in tested.items() if not all(is_above(rows, each) for each in floors)]


def learners(rows: Iterable[Row]) -> list[str]:
    """Return the labels of rows in the order of `NAMES`, then others; numbers sort naturally."""
    known = list(NAMES)
    ranks = {
        row["label"]: known.index(row["algo"]) if row["algo"] in NAMES else len(known)
        for row in rows
    }

    def key(label: str) -> tuple[object, ...]:
        words = re.split(r"(\d+)", label)  # alternates between text and numbers
        return ranks[label], [int(word) if i % 2 else word for i, word in enumerate(words)]

    return sorted(ranks, key=key)


def merge_across(records: Iterable[Row], fields: Collection[str]) -> list[Row]:
    """Return copies of rows that are compared although they differ in ``fields``, from `ACROSS`.

    The differences go into their labels, and the merged facts list all values. Across pretrained
    networks, the label names the network, or the backbone that was trained from scratch.
    """
    rows = list(records)
    if "pretrained" in fields:
        rows = [row if is_floor(row) else row | {"network": network_name(row)} for row in rows]
        fields = [*(field for field in fields if field not in PRETRAINED), "network", *PRETRAINED]
    learned = [row for row in done(rows) if not is_floor(row)]
    values = {fact: sorted({str(_value(row, fact)) for row in learned}) for fact in fields}
    several = {fact: " or ".join(found) for fact, found in values.items() if len(found) > 1}
    shown = [fact for fact in several if "network" not in fields or fact not in PRETRAINED]
    return [
        row
        if is_floor(row)
        else {**row, **several, "told_apart": {fact: _value(row, fact) for fact in shown}}
        for row in rows
    ]


def network_name(row: Row) -> str:
    """Return a short name of a row's network: the pretrained one, or the backbone from scratch."""
    if said := row.get("pretrained"):
        return _short(said)
    return f"{row['backbone']} from scratch"


def _short(pretrained: str) -> str:
    """Return the name of pretrained weights and the beginning of their digest."""
    name, *facts = pretrained.split(", ")
    digest = next((fact[8:16] for fact in facts if fact.startswith("weights ")), "")
    return f"{name} {digest}".strip()


def incompatibilities(records: Iterable[Row]) -> list[str]:
    """Return a sentence on the differences for each data set with rows of several protocols."""
    rows = [row for row in done(records) if not is_floor(row)]
    sentences = []
    for dataset in dict.fromkeys(row["dataset"] for row in sorted(rows, key=row_order)):
        values = {
            field: {_value(row, field) for row in rows if row["dataset"] == dataset}
            for field in ALL_FACTS
        }
        several = {field: found for field, found in values.items() if len(found) > 1}
        if several:
            facts = "; ".join(
                f"{field} ({', '.join(sorted(map(str, found)))})"
                for field, found in several.items()
            )
            asked = ",".join(field for field in several if field in ACROSS)
            advice = f" To compare them all the same: python -m bench.report across={asked}"
            sentences.append(
                f"Rows of {dataset} are kept apart where they differ in {facts}."
                + (advice if asked else "")
            )
    for comparison in comparisons(with_labels(rows), SCORE):
        lists = [setting for setting in comparison.settings if EPISODES in setting]
        if lists:
            sentences.append(
                f"Rows of {comparison.title} were tested on several lists of episodes, and are never "
                f"compared with each other: {'; '.join(lists)}."
            )
    return sentences


def setting_title(row: Row) -> str:
    """Return the data set, ways and shots of a row, regardless of the protocol."""
    return f"{row['dataset']}, {setting_of(row)}"


def setting_of(row: Row) -> str:
    """Return the ways and shots of a row as text."""
    return Setting(row["ways"], row["shots"], row["queries"]).label


def metric_of(row: Row) -> Metric:
    """Return the metric of a row's score."""
    return Metric.model_validate(row["metric"])


def by_metric(records: Iterable[Row]) -> dict[Metric, list[Row]]:
    """Return the rows of each metric, told apart and ordered by name."""
    named: dict[str, list[Row]] = {}
    for row in records:
        named.setdefault(row["metric"]["name"], []).append(row)
    return {metric_of(named[name][0]): named[name] for name in sorted(named)}


def row_order(row: Row) -> tuple[Any, ...]:
    """Return the sort key of rows: data set, ways, shots, algorithm, seed, cell."""
    return tuple(row[key] or 0 for key in ("dataset", "ways", "shots", "algo", "seed", "cell"))


def done(records: Iterable[Row]) -> list[Row]:
    """Return the records of finished cells."""
    return [row for row in records if row["status"] == "done"]


def with_scores(records: Iterable[Row], tested: Mapping[str, pd.DataFrame]) -> list[Row]:
    """Return copies of rows with the ``accuracies`` of their test episodes, given by cell."""
    return [
        {**row, "scores": each["score"].to_numpy(float)}
        if (each := tested.get(row["cell"])) is not None
        else row
        for row in records
    ]


def score(rows: Sequence[Row]) -> Score:
    """Return the score of one learner in one setting from its finished rows, one per seed.

    Without `with_scores`, only each row's interval over episodes is known.
    """
    means, halves = [row["score"] for row in rows], [row["ci95"] for row in rows]
    if len(rows) == 1:
        return Score(means[0], halves[0], 1)
    if all("scores" in row for row in rows):
        found = intervals.estimate([np.stack([row["scores"] for row in rows])])
    else:
        found = intervals.estimate_without_episodes(means, halves)
    return Score(found.mean, found.half, len(rows))


def of_learner(rows: Sequence[Row]) -> bool:
    """Return whether rows (one per seed) represent a learner: several seeds, or no parameters."""
    return len(rows) > 1 or rows[0]["parameters"] == 0


def is_timed(row: Row) -> bool:
    """Return whether the speed of a run was measured; if not, other load may have slowed it."""
    return row.get("throughput") != []


def is_untrained(row: Row) -> bool:
    """Return whether a row is of an algorithm without trainable parameters."""
    return row.get("parameters") == 0 and row["status"] == "done"


def is_of_texts(rows: Sequence[Row]) -> bool:
    """Return whether rows are of texts, whose tables begin with what no training gives."""
    return rows[0].get("examples") == "texts"


def is_floor(row: Row) -> bool:
    """Return whether nothing at all was trained for a row, its features included."""
    return is_untrained(row) and not row.get("pretrained")


def is_above(rows: Sequence[Row], floor: Row) -> bool:
    """Return whether a learner (one row per seed) is above a floor by more than the interval.

    Uses paired differences on the shared episodes if rows are `with_scores`.
    """
    metric = metric_of(floor)
    if not all("scores" in row for row in (*rows, floor)):
        result = score(rows)
        ahead = result.mean - floor["score"]
        return bool((ahead if metric.higher_is_better else -ahead) > result.half)
    runs = [metric.merits(row["scores"]) for row in rows]
    both = [np.stack(runs) if len(runs) > 1 else runs[0], metric.merits(floor["scores"])]
    found = intervals.estimate(both, (1, -1))
    return found.mean > found.half


def phase_throughput(rows: Iterable[Row], phase: str, unit: str = "tasks_per_s") -> float | None:
    """Return the throughput of a phase, the mean over the rows (seeds) that measured it."""
    values = [
        entry[unit]
        for row in rows
        for entry in row.get("throughput") or []
        if entry["phase"] == phase and entry.get(unit) is not None
    ]
    return statistics.fmean(values) if values else None


def saturation(records: Iterable[Row]) -> list[tuple[Comparison, str, dict[str, dict[int, float]]]]:
    """Return the settings in which a learner was timed at several meta-batches, under one label.

    Each comes with its comparison and the training tasks/s by label and meta-batch.
    """
    timed = [
        row
        for row in done(with_labels(records, but=["meta_batch"]))
        if phase_throughput([row], "train")
    ]
    found = []
    for comparison in comparisons(timed, THROUGHPUT):
        for setting in comparison.settings:
            each: dict[str, dict[int, float]] = {}
            for label in comparison.labels:
                rows = comparison.at(label, setting)
                for size in sorted({row["meta_batch"] for row in rows}):
                    same = [row for row in rows if row["meta_batch"] == size]
                    if (rate := phase_throughput(same, "train")) is not None:
                        each.setdefault(label, {})[size] = rate
            if any(len(rates) > 1 for rates in each.values()):
                found.append((comparison, setting, each))
    return found


def with_labels(records: Iterable[Row], but: Collection[str] = ()) -> list[Row]:
    """Return copies with a `label`: the learner's name, and its variant if there are several.

    Variants differ in a fact within one setting, except for facts in `but`; transductive ones are
    marked with a dagger.
    """
    rows = sorted(records, key=row_order)
    values: dict[tuple[Any, ...], set[str]] = {}
    for row in done(rows):
        place = (row["algo"], row["dataset"], row["ways"], row["shots"])
        for fact, value in _variant(row).items():
            values.setdefault((*place, fact), set()).add(value)
    several = {(place[0], place[-1]) for place, seen in values.items() if len(seen) > 1}
    differing = {(algo, fact) for algo, fact in several if fact not in but}
    short = _with_short_recipes(rows, differing)
    networks: dict[tuple[str, str], set[str]] = {}
    for row in filter(is_floor, rows):
        options = networks.setdefault((row["algo"], row["backbone"]), set())
        options.add(str(row["backbone_options"]))

    named = []
    for row in rows:
        facts = [
            _fact(fact, value)
            for fact, value in _variant(row).items()
            if (row["algo"], fact) in differing or fact in row.get("told_apart", {})
            if row["algo"] not in short or fact not in RECIPE
        ]
        if is_floor(row):
            options = networks[row["algo"], row["backbone"]]
            more = [str(_value(row, "backbone_options"))] if len(options) > 1 else []
            facts = [row["backbone"], *more, *facts]
        facts += [recipe_name(row)] if row["algo"] in short else []
        if row.get("tuning") and "tuning" not in row.get("told_apart", {}):
            facts = ["tuned", *facts]
        label = NAMES.get(row["algo"]) or str(row["algo"])
        label += f" ({', '.join(facts)})" if facts else ""
        label += DAGGER if row.get("transductive") else ""
        named.append({**row, "label": label})
    return named


def recipe_name(row: Row) -> str:
    """Return a short recipe name, such as ``sgd, augmented``, which need not be unique."""
    parts = {
        str(row.get("optimizer")): True,
        "augmented": row.get("augmentation", "none") != "none",
        "smoothed": row.get("label_smoothing"),
        str(row.get("train_split")): row.get("train_split", "train") != "train",
    }
    return ", ".join(part for part, wanted in parts.items() if wanted)


def comparisons(rows: Iterable[Row], fields: Sequence[str]) -> list[Comparison]:
    """Split labelled rows so that within one comparison the data set and all `fields` agree.

    A title names the data set and the facts that differ from its other comparisons. Failed rows may
    lack fields; they join the first comparison that they do not contradict. Floors are added to each
    comparison on the same test episodes, although their training facts differ; those without one
    are compared with each other. Heads without training on pretrained features are ranked with the
    learners that were trained on these, whatever their budget.
    """
    rows = list(rows)
    floors = [row for row in rows if is_floor(row)]
    found = [
        replace(comparison, floors=_floors_of(comparison, floors))
        for comparison in _split([row for row in rows if not is_floor(row)], fields)
    ]
    placed = {row["cell"] for comparison in found for row in comparison.floors}
    return found + _split([row for row in floors if row["cell"] not in placed], fields)


def _floors_of(comparison: Comparison, floors: Iterable[Row]) -> list[Row]:
    """Return copies of the floors tested on episodes of a comparison, with its settings."""
    settings = {row["episodes_digest"]: row["setting"] for row in done(comparison.rows)}
    return [
        {**row, "setting": settings[row["episodes_digest"]]}
        for row in sorted(floors, key=row_order)
        if row["episodes_digest"] in settings
    ]


def _split(rows: Iterable[Row], fields: Sequence[str]) -> list[Comparison]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(
        rows, key=lambda row: (row["status"] != "done", is_untrained(row), row_order(row))
    ):
        facts = {field: _value(row, field) for field in fields}
        key = (row["dataset"], row["metric"]["name"], *facts.values())
        places = [key]
        if row["status"] != "done":
            places = [next((other for other in groups if _fits(key, other)), key)]
        elif is_untrained(row):
            any_budget = facts | dict.fromkeys(facts.keys() & OF_TRAINING)
            open_key = (*key[:2], *any_budget.values())
            places = [other for other in groups if _fits(open_key, other)] or [key]
        for place in places:
            groups.setdefault(place, []).append(row)

    found = []
    for key in sorted(groups, key=lambda key: [(value is not None, value) for value in key]):
        siblings = [
            dict(zip(fields, other[2:], strict=True)) for other in groups if other[0] == key[0]
        ]
        facts = dict(zip(fields, key[2:], strict=True))
        differing = [
            _fact(field, value)
            for field, value in facts.items()
            if len({other[field] for other in siblings}) > 1
            if field not in PRETRAINED or not _says_it_all(facts, siblings, field)
        ]
        members = _disambiguate(_with_setting(sorted(groups[key], key=row_order)))
        found.append(Comparison(", ".join([key[0], *differing]), members))
    return found


def _says_it_all(facts: Row, siblings: Sequence[Row], field: str) -> bool:
    """Return whether the name of pretrained weights, shown before, implies this fact of a network."""
    weights = facts.get("pretrained")
    alike = {other[field] for other in siblings if other.get("pretrained") == weights}
    return field != "pretrained" and weights is not None and len(alike) == 1


def shared_facts(rows: Sequence[Row], fields: Sequence[str]) -> str:
    """Return the facts that all finished rows share, as 'backbone conv4, precision fp32'."""
    facts = []
    for field in fields:
        values = {_value(row, field) for row in done(rows)}
        if len(values) == 1 and values.isdisjoint({None, "", DEFAULTS.get(field)}):
            facts.append(_fact(field, values.pop()))
    return ", ".join(facts)


def interval_note(found: Iterable[Comparison]) -> str:
    """Return what the number after ± (or an error bar) covers, as a clause."""
    cells = [
        (score(rows).seeds, *tested_on(rows[0]))
        for comparison in found
        for label in comparison.labels
        for setting in comparison.settings
        if (rows := comparison.at(label, setting))
    ]
    notes = []
    if single := sorted(
        {count for seeds, count, unit in cells if seeds == 1 and unit == "episodes"}
    ):
        count = " or ".join(str(episodes) for episodes in single)
        notes.append(f"95 % interval over {count} test episodes of one trained model")
    if photos := sorted({count for _, count, unit in cells if unit == "photographs"}):
        count = " or ".join(str(each) for each in photos)
        notes.append(f"95 % interval for other photographs of these classes, by {count} of them")
    if several := sorted({seeds for seeds, *_ in cells if seeds > 1}):
        count = " or ".join(str(seeds) for seeds in several)
        notes.append(
            f"where {count} seeds were run, 95 % interval around their mean for other seeds and episodes"
        )
    return "; ".join(notes)


def _with_short_recipes(rows: Sequence[Row], differing: Collection[tuple[str, str]]) -> set[str]:
    """Return the algorithms whose recipes differ in several facts and have unique short names."""
    found = set()
    for algo in {algo for algo, fact in differing if fact in RECIPE}:
        if sum((algo, fact) in differing for fact in RECIPE) > 1:
            own = [row for row in rows if row["algo"] == algo]
            recipes = {(recipe_name(r), *(str(r.get(fact)) for fact in RECIPE)) for r in own}
            if len({name for name, *_ in recipes}) == len(recipes):
                found.add(algo)
    return found


def _variant(row: Row) -> dict[str, str]:
    """Return the facts that define the variant of a row; the study replaces tuned options."""
    facts = {fact: row[fact] for fact in VARIANT if fact in row}
    facts |= row.get("algo_options", {})
    if tuned := row.get("tuned"):
        found = {name.partition(".")[2] for name in tuned["options"]}
        facts = {fact: value for fact, value in facts.items() if fact not in found}
        facts["study"] = tuned["study"]
    facts |= row.get("told_apart", {})
    return {fact: str(value) for fact, value in facts.items()}


def _with_setting(rows: Sequence[Row]) -> list[Row]:
    """Return copies with a `setting`; it names the episodes if there are several lists of them."""
    lists: dict[tuple[int, int], set[str]] = {}
    for row in done(rows):
        lists.setdefault((row["ways"], row["shots"]), set()).add(row["episodes_digest"])

    named = []
    for row in rows:
        setting = setting_of(row)
        digests = lists.get((row["ways"], row["shots"]), set())
        if len(digests) > 1:
            setting += f"{EPISODES}{row.get('episodes_digest', min(digests))[:8]}"
        named.append({**row, "setting": setting})
    return named


def _disambiguate(rows: Sequence[Row]) -> list[Row]:
    """Return copies with the cell in the label where a learner has a seed twice.

    Duplicate seeds must not be averaged.
    """
    apart = ("label", "setting", "seed", "meta_batch", "network", *RECIPE)
    finished = [tuple(row.get(fact) for fact in apart) for row in done(rows)]
    twice = {key[:2] for key in finished if finished.count(key) > 1}
    return [
        {**row, "label": f"{row['label']} [{row['cell'].rsplit('-', 1)[-1]}]"}
        if (row["label"], row["setting"]) in twice and row["status"] == "done"
        else row
        for row in rows
    ]


def _fits(mine: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    return all(value in (None, other) for value, other in zip(mine, theirs, strict=True))


def _value(row: Row, field: str) -> Any:
    """Return a fact as it is compared: options as text, anything else unchanged."""
    value = row.get(field, DEFAULTS.get(field))
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items() if v is not None)
    return value


def _fact(field: str, value: Any) -> str:
    text = "none" if value in (None, "None") else str(value)
    short = text[:8] if field.endswith(("digest", "code")) else text
    short = _short(text) if field == "pretrained" else short
    return f"{field.replace('_', ' ')} {short}".removeprefix("backbone options ")
