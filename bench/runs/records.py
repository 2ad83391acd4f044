"""Schema of a record, validated when it is written and when it is read."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

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
    images_per_s: Rate
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
    trial_images: Positive
    n_startup_trials: Positive | None = None  # these two are missing in older rows
    batch_size: Positive | None = None
    stopped: Count
    failed: Count
    images: Count
    seconds: Measured
    first: Percent
    best: Percent
    options: dict[Name, Integer | float]


class Protocol(Stored):
    """The protocol card, part of every record."""

    schema_: Positive = Field(alias="schema")
    cell: Name
    algo: Name
    dataset: Name
    ways: Annotated[int, Field(ge=2, lt=2**31)]
    shots: Positive
    queries: Positive
    seed: Count
    transductive: bool
    norm_statistics: Name | None = None  # missing in rows of schema 1
    order: Literal[0, 1, 2]
    algo_options: Options
    data_digest: Hex
    backbone: Name
    backbone_options: Options
    parameters: Count
    train_ways: Positive
    train_shots: Positive
    train_queries: Count
    train_images: Count  # 0: an untrained learner
    train_split: Text
    meta_batch: Positive
    optimizer: Name
    momentum: Amount
    weight_decay: Amount
    lr: Amount
    lr_schedule: Text
    clip_value: Amount | None
    label_smoothing: Amount
    augmentation: Text
    validations: Positive
    val_episodes: Positive
    device: Name
    device_name: Text
    threads: Positive
    processes: Positive = 1  # missing in older rows
    launcher: Name = "basic"  # missing in older rows
    precision: Name
    deterministic: bool
    python: Text
    torch: Text
    version: Text
    packages: Text | None = None  # of third parties, if any
    code: Hex | None = None  # missing in older rows
    commit: Text | None
    created: Text
    tuning: Text | None = None  # these two only for tuned learners
    tuned: Tuned | None = None


class Done(Protocol):
    """Record of a finished cell. Accuracies are in percent."""

    status: Literal["done"]
    reason: None
    accuracy: Percent
    ci95: Percent
    loss: Amount | None = None  # these three are missing in rows of schema 1
    brier: Amount | None = None
    ece: Percent | None = None
    unsolved_tasks: Count | None = None  # of the test; only for learners that check their solver
    episodes: Annotated[int, Field(ge=2, lt=2**31)]
    episodes_digest: Hex
    selected_episode: Count
    val_accuracy: Percent | None  # None if nothing was trained
    train_episodes: Count
    train_seconds: Measured
    train_process_seconds: Measured | None = None  # missing in older rows
    elapsed_seconds: Measured | None = None  # missing in older rows
    throughput: list[Phase]


class Failed(Protocol):
    """Record of a failed cell."""

    status: Literal["failed"]
    reason: Text


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
    return record


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
