"""What a record may hold: checked when it is written, and when it is read."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Name = Annotated[str, Field(pattern=r"^[\w.+-]+(/[\w.+-]+)*$", max_length=200)]
# Nothing that a terminal would obey.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=10_000)]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]+$", max_length=64)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Integer = Annotated[int, Field(gt=-(2**63), lt=2**63)]
Amount = Annotated[float, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]
# Far beyond what any machine does, and far from what overflows in a figure.
Measured = Annotated[float, Field(ge=0, le=1e15)]
Rate = Annotated[float, Field(ge=1e-9, le=1e15)]
Options = dict[Name, bool | Integer | float | Text | None]
REASON_LETTERS = 2_000
"""Of why a cell failed: more than any sentence has, and less than an exception may say."""


class Stored(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, extra="allow")


class Phase(Stored):
    """One row of `bench.throughput.measure`."""

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
    """How the options of a tuned learner were found, see `bench.config.Tuned`, and their values."""

    study: Name
    trials: Positive
    trial_images: Positive
    startup: Positive | None = None  # older rows lack these two
    at_once: Positive | None = None
    stopped: Count
    failed: Count
    images: Count
    seconds: Measured
    first: Percent
    best: Percent
    options: dict[Name, Integer | float]


class Protocol(Stored):
    """The protocol card, which every record has."""

    schema_: Positive = Field(alias="schema")
    cell: Name
    algo: Name
    dataset: Name
    ways: Annotated[int, Field(ge=2, lt=2**31)]
    shots: Positive
    queries: Positive
    seed: Count
    transductive: bool
    statistics: Name | None = None  # rows of schema 1 do not tell
    order: Literal[0, 1, 2]
    algo_options: Options
    data_digest: Hex
    backbone: Name
    backbone_options: Options
    parameters: Count
    train_ways: Positive
    train_shots: Positive
    train_queries: Count
    train_images: Count  # 0: a learner as it is made
    train_split: Text
    meta_batch: Positive
    optimizer: Name
    momentum: Amount
    weight_decay: Amount
    rate: Amount
    schedule: Text
    clip_value: Amount | None
    label_smoothing: Amount
    augmentation: Text
    validations: Positive
    val_episodes: Positive
    device: Name
    device_name: Text
    threads: Positive
    processes: Positive = 1  # older rows do not tell
    launcher: Name = "basic"  # nor do they here
    precision: Name
    deterministic: bool
    python: Text
    torch: Text
    version: Text
    packages: Text | None = None  # of third parties, where there are some
    code: Hex | None = None  # older rows do not tell
    commit: Text | None
    created: Text
    tuning: Text | None = None  # rows of learners that were not tuned lack these two
    tuned: Tuned | None = None


class Done(Protocol):
    """A finished cell. Accuracies are in percent."""

    status: Literal["done"]
    reason: None
    accuracy: Percent
    ci95: Percent
    loss: Amount | None = None  # rows of schema 1 lack these three
    brier: Amount | None = None
    ece: Percent | None = None
    unsolved_tasks: Count | None = None  # of the test, by learners that check their solver
    episodes: Annotated[int, Field(ge=2, lt=2**31)]
    episodes_digest: Hex
    selected_episode: Count
    val_accuracy: Percent | None  # None where nothing was trained, so that nothing was to be chosen
    train_episodes: Count
    train_seconds: Measured
    train_process_seconds: Measured | None = None  # older rows do not tell
    elapsed_seconds: Measured | None = None  # older rows do not tell
    throughput: list[Phase]


class Failed(Protocol):
    """A failed cell."""

    status: Literal["failed"]
    reason: Text


_PROTOCOL = TypeAdapter(Protocol)
_RECORD: TypeAdapter[Done | Failed] = TypeAdapter(
    Annotated[Done | Failed, Field(discriminator="status")]
)


def check(record: Any) -> dict[str, Any]:
    """The record itself; raises ValueError with what is missing or is not what it should be.

    Facts that this version does not know, as of a newer one, may be anything.
    """
    try:
        _RECORD.validate_python(record)
    except ValidationError as error:
        raise ValueError(_complaint(error)) from None
    return record


def check_card(card: dict[str, Any]) -> None:
    """Raises ValueError where a record could not hold what is known of a cell before it is run."""
    try:
        _PROTOCOL.validate_python(card)
    except ValidationError as error:
        found = error.errors()
        # the cell's name is made of others, which tell more
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
