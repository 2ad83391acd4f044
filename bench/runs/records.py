"""Schema of a record, validated when it is written and when it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, Self

from numpy.typing import ArrayLike
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from bench.stats import photos
from bench.stats.intervals import mean_ci95
from bench.tasks.base import Metric

Name = Annotated[str, Field(pattern=r"^[\w.+-]+(/[\w.+-]+)*$", max_length=200)]
# No control characters, which a terminal would interpret.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=10_000)]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]+$", max_length=64)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Integer = Annotated[int, Field(gt=-(2**63), lt=2**63)]
Amount = Annotated[float, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]
# Far above any real measurement, and far below an overflow in a figure.
Measured = Annotated[float, Field(ge=0, le=1e15)]
Rate = Annotated[float, Field(ge=1e-9, le=1e15)]
Options = dict[Name, bool | Integer | float | Text | None]
SCHEMA = 1
"""The version of records and configurations that is written."""
REASON_LETTERS = 2_000
"""Maximum length of the reason of a failure: above any sentence, but below what exceptions may hold."""


class Stored(BaseModel):
    """Base class of stored models: strict types, finite numbers, unknown keys allowed."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")


class Phase(Stored):
    """One row of `bench.engine.throughput.measure`."""

    phase: Literal["draw", "train", "train_alone", "evaluate", "adapt", "infer"]
    tasks_per_s: Rate
    examples_per_s: Rate
    ms_median: Measured
    ms_iqr: Measured
    tasks_per_call: Positive
    calls: Positive
    peak_mib: Measured | None
    gflop_per_task: Measured | None = None
    gflop_per_s: Measured | None = None
    matmul_share: Measured | None = None
    scaling_efficiency: Measured | None = None
    power_w: Measured | None = None
    joules_per_1000_tasks: Measured | None = None


class Tuned(Stored):
    """Tuning of a learner's options, and the values found; see `bench.config.schema`."""

    study: Name
    n_trials: Positive
    trial_examples: Positive
    n_startup_trials: Positive
    batch_size: Positive
    stopped: Count
    failed: Count
    examples: Count
    seconds: Measured
    first: float
    best: float
    options: dict[Name, Integer | float]


class Role(Enum):
    """What a fact of a record is for; a field of `Protocol` or `Done` may have several roles."""

    SCORE = "scores are compared only where it agrees"
    SPEED = "speeds are compared only where it agrees"
    NETWORK = "part of both: what is trained on what"
    VARIANT = "rows of one algorithm that differ in it get labels of their own"
    RECIPE = "part of that: how the outer loop trains"
    RUN = "it follows from the machine, the time or the code, not from configuration and data"
    PROVENANCE = "shown where a row comes from"


@dataclass(frozen=True)
class Usual:
    """The value of a fact that goes without saying, also in rows that lack it."""

    value: Any


class Protocol(Stored):
    """The protocol card, part of every record: type, roles and usual value of each fact.

    Schema, comparability, labels and provenance follow from here. The order of the fields is that of
    the facts in captions and labels.
    """

    schema_: Annotated[Positive, Field(alias="schema")]
    cell: Name
    algo: Name
    dataset: Name
    ways: Annotated[int, Field(ge=2, lt=2**31)] | None  # None: tasks have no classes
    shots: Positive
    seed: Count
    transductive: bool
    norm_statistics: Name
    order: Annotated[Literal[0, 1, 2], Role.VARIANT]
    algo_options: Options
    code: Annotated[Hex, Role.SCORE, Role.RUN, Role.PROVENANCE]
    commit: Annotated[Text | None, Role.RUN, Role.PROVENANCE]
    version: Annotated[Text, Role.RUN, Role.PROVENANCE]
    packages: Text | None = None  # of third parties, if any
    python: Annotated[Text, Role.RUN, Role.PROVENANCE]
    created: Annotated[Text, Role.RUN]
    metric: Metric
    examples: Name
    data_digest: Annotated[Hex, Role.SCORE, Role.PROVENANCE]
    left_out: Annotated[Text | None, Role.PROVENANCE] = None  # of the user's own files
    backbone: Annotated[Name, Role.NETWORK]
    backbone_options: Annotated[Options, Role.NETWORK]
    pretrained: Annotated[Text | None, Role.SCORE, Usual(None)] = None  # None: from scratch
    parameters: Count
    queries: Annotated[Positive | None, Role.NETWORK]  # None: all other examples
    precision: Annotated[Name, Role.NETWORK, Role.PROVENANCE]
    train_examples: Annotated[Count, Role.SCORE]  # 0: an untrained learner
    tuning: Annotated[Text | None, Role.SCORE, Usual("none")] = None  # only for tuned learners
    tuned: Tuned | None = None  # only for tuned learners
    device: Annotated[Name, Role.SPEED, Role.VARIANT, Role.RUN, Role.PROVENANCE]
    device_name: Annotated[Text, Role.SPEED, Role.RUN, Role.PROVENANCE]
    threads: Annotated[Positive, Role.SPEED, Role.RUN, Role.PROVENANCE]
    processes: Annotated[Positive, Role.SPEED, Role.RUN, Role.PROVENANCE, Usual(1)]
    launcher: Annotated[Name, Role.SPEED, Role.RUN, Role.PROVENANCE, Usual("basic")]
    torch: Annotated[Text, Role.SPEED, Role.RUN, Role.PROVENANCE]
    deterministic: Annotated[bool, Role.VARIANT]
    train_ways: Annotated[Positive | None, Role.VARIANT]
    train_shots: Annotated[Positive, Role.VARIANT]
    train_queries: Annotated[Count, Role.VARIANT]
    meta_batch: Annotated[Positive, Role.VARIANT]
    train_split: Annotated[Text, Role.RECIPE]
    optimizer: Annotated[Name, Role.RECIPE]
    momentum: Annotated[Amount, Role.RECIPE]
    weight_decay: Annotated[Amount, Role.RECIPE]
    lr: Annotated[Amount, Role.RECIPE]
    lr_schedule: Annotated[Text, Role.RECIPE]
    clip_value: Annotated[Amount | None, Role.RECIPE]
    label_smoothing: Annotated[Amount, Role.RECIPE]
    augmentation: Annotated[Text, Role.RECIPE]
    validations: Annotated[Positive, Role.VARIANT]
    val_episodes: Annotated[Positive, Role.VARIANT]


class Done(Protocol):
    """Record of a finished cell; ``score`` is the mean of the metric over the test episodes."""

    status: Literal["done"]
    reason: None
    score: float
    ci95: Measured
    loss: Amount | None = None  # these three are of classification
    brier: Amount | None = None
    ece: Percent | None = None
    photos: Positive | None = None  # what the interval is over, if not over test episodes
    unsolved_tasks: Count | None = None  # of the test; only for learners that check their solver
    episodes: Annotated[int, Field(ge=2, lt=2**31), Role.SCORE, Role.PROVENANCE]
    episodes_digest: Annotated[Hex, Role.PROVENANCE]
    selected_episode: Count
    val_score: float | None  # None if nothing was trained
    train_episodes: Count
    train_seconds: Measured
    train_process_seconds: Measured
    elapsed_seconds: Measured
    throughput: list[Phase]

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        for key in ("score", "val_score"):
            value = getattr(self, key)
            if value is not None and not self.metric.contains(value):
                raise ValueError(f"its {key} is {value}, which no {self.metric.label} can be")
        return self


class Failed(Protocol):
    """Record of a failed cell."""

    status: Literal["failed"]
    reason: Text


def score_text(record: Mapping[str, Any]) -> str:
    """Return the score of a finished cell with its interval, such as ``93.1 ± 0.4 %``."""
    return Metric.model_validate(record["metric"]).text(record["score"], record["ci95"])


def tested_on(record: Mapping[str, Any]) -> tuple[int, str]:
    """Return what the interval of a finished cell is over: so many ``episodes`` or ``photographs``."""
    photographs = record.get("photos")
    return (photographs, "photographs") if photographs else (record["episodes"], "episodes")


def interval(record: Mapping[str, Any], scores: ArrayLike) -> tuple[float, float]:
    """Return the score and its half-width that follow from the rows of a finished cell's test."""
    own = tested_on(record)[1] == "photographs"
    return photos.interval(scores) if own else mean_ci95(scores)


def facts(*roles: Role) -> tuple[str, ...]:
    """Return the names of the facts that have any of these roles, in their order."""
    return tuple(
        name
        for name, field in Done.model_fields.items()
        if any(role in field.metadata for role in roles)
    )


def usual_values() -> dict[str, Any]:
    """Return the usual values of the facts that have one."""
    return {
        name: marker.value
        for name, field in Done.model_fields.items()
        for marker in field.metadata
        if isinstance(marker, Usual)
    }


_PROTOCOL = TypeAdapter(Protocol)
_RECORD: TypeAdapter[Done | Failed] = TypeAdapter(
    Annotated[Done | Failed, Field(discriminator="status")]
)


def check(record: Any) -> dict[str, Any]:
    """Return the record itself if it is valid.

    Keys that this version does not know, as of a newer one, may have any value.

    Raises:
        ValueError: Something is missing or invalid; the message says what.
    """
    try:
        _RECORD.validate_python(record)
    except ValidationError as error:
        raise ValueError(_complaint(error)) from None
    checked: dict[str, Any] = record
    return checked


def check_card(card: dict[str, Any]) -> None:
    """Raise ValueError if a record could not hold what is known of a cell before it is run."""
    try:
        _PROTOCOL.validate_python(card)
    except ValidationError as error:
        found = error.errors()
        # the cell's name derives from other keys, whose errors are more specific
        first = next((each for each in found if each["loc"] != ("cell",)), found[0])
        key, *option = map(str, first["loc"])
        value = card[key]
        if key in ("algo_options", "backbone_options"):
            key, value = f"{key}.{option[0]}", value[option[0]]
            expected = (
                "an option has a name of letters, digits and ._+- and is a number that is finite"
            )
            expected += ", a text, true, false or null"
        elif first["type"] == "string_pattern_mismatch":
            expected = "a name is made of letters, digits and ._+- alone"
        else:
            expected = first["msg"].replace("Input should", "it should")
        raise ValueError(f"its {key} is {str(value)[:100]!r}: {expected}") from None


def _complaint(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"].startswith(("union_tag", "model", "dict")) and len(first["loc"]) < 2:
        return "its status is neither done nor failed"
    key = ".".join(str(step) for step in first["loc"][1:])
    if first["type"] == "missing":
        return f"it has no {key}"
    message = first["msg"].replace("Input should", "it should")
    return f"its {key} is {str(first['input'])[:100]!r}: {message[0].lower()}{message[1:]}"
