"""The type of every key of conf/, checked before any work is done.

What each key means is written beside it in conf/; ``python -m bench --help`` prints both.
"""

import inspect
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticUserError,
    ValidationError,
    create_model,
)

from bench.mistake import Mistake, in_a_line, with_place

# Numbers are such as a record can hold.
Positive = Annotated[int, Field(ge=1, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Ways = Annotated[int, Field(ge=2, lt=2**31)]
Episodes = Annotated[int, Field(ge=2, lt=2**31)]
Share = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["fp32", "tf32", "bf16"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Code(Strict):
    """A learner, backbone or data set: code named by ``target``, such as ``algorithms.maml.MAML``.

    The other keys are options, typed by the keyword-only parameters of that code.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    target: str

    @property
    def options(self) -> dict[str, Any]:
        return self.model_extra or {}

    def resolve(self) -> Callable[..., Any]:
        """The callable that ``target`` names; raises Mistake when there is none."""
        module, _, attribute = self.target.rpartition(".")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            why = str(error)
        except (Exception, SystemExit) as error:  # whatever code does when it is imported
            why = with_place(error)
        raise Mistake(f"{self.name!r} cannot be loaded from {self.target!r}: {why}.")


class Train(Strict):
    images: Count
    meta_batch: Positive
    ways: Ways | None
    shots: Positive | None
    queries: Count
    split: Literal["train", "train+val"]
    optimizer: Literal["adam", "sgd"]
    momentum: Share
    weight_decay: Annotated[float, Field(ge=0)]
    rate: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "linear", "cosine", "halving", "steps"]
    halving_steps: Positive
    step_at: list[Share]
    step_factors: list[Annotated[float, Field(gt=0)]]
    clip_value: Annotated[float, Field(gt=0)] | None
    label_smoothing: Share
    crop_padding: Count
    flip: bool
    jitter: Annotated[float, Field(ge=0, le=1)]


class Validation(Strict):
    times: Positive
    episodes: Episodes


class Test(Strict):
    episodes: Episodes


class Throughput(Strict):
    seconds: Annotated[float, Field(ge=0, le=3600)]


class Range(Strict):
    model_config = ConfigDict(allow_inf_nan=True)  # `bench.tuning` says more of these

    low: int | float
    high: int | float
    scale: Literal["linear", "log"]


class Tune(Strict):
    trials: Positive
    images: Positive
    startup: Positive
    at_once: Positive
    seed: Count
    trial: Annotated[str, Field(pattern=r"^[\w.+-]+/\d+$")] | None
    space: dict[Literal["algo", "train"], dict[str, Range]]

    @property
    def ranges(self) -> dict[str, Range]:
        """The range of each option that is tuned, by its name such as ``train.rate``."""
        return {f"{group}.{key}": r for group, own in self.space.items() for key, r in own.items()}

    def round_begun(self, number: int) -> int:
        """The first trial of the round of a trial, which knows of those before its round alone."""
        return number // self.at_once * self.at_once


class Tuned(Strict):
    """Where the options of a tuned cell come from. Accuracies are in percent.

    ``trial_images`` is the budget of a trial, ``startup`` and ``at_once`` are as in `Tune`, and not
    told by older rows. ``images`` and ``seconds`` are what all trials were trained for, ``first`` and
    ``best`` the validation accuracies of the options that the learner comes with and of the chosen ones.
    """

    study: Annotated[str, Field(pattern=r"^[\w+-][\w.+-]*$", max_length=200)]
    trials: Positive
    trial_images: Positive
    startup: Positive | None = None
    at_once: Positive | None = None
    stopped: Count
    failed: Count
    images: Count
    seconds: Annotated[float, Field(ge=0)]
    first: Annotated[float, Field(ge=0, le=100)]
    best: Annotated[float, Field(ge=0, le=100)]
    options: list[str]

    @property
    def budget(self) -> str:
        """What each learner must have had, to be compared with this one."""
        search = f" with startup {self.startup} and at_once {self.at_once}" if self.startup else ""
        return f"{self.trials} trials of {self.trial_images:,} images{search}"


OF_THE_COMMAND = {
    *("results_dir", "data_root", "cache_dir", "threads"),
    *("overwrite", "retry_failed", "dry_run", "until", "tune", "logger", "floors"),
}
"""Keys that say where files are and what to do, and are not stored; a row has its threads as a fact."""
PLACES = {"path", "splits"}
"""Options of data sets that say where files are: of these only the last name is stored."""
INCIDENTAL = OF_THE_COMMAND | {"throughput", "tuned"}
"""Keys that do not determine a cell's numbers, or are told apart by its content (the data's digest)."""


class Config(Strict):
    """The configuration of one cell."""

    algo: Code
    backbone: Code
    dataset: Code
    ways: Ways
    shots: Positive
    queries: Positive
    seed: Count
    train: Train
    validation: Validation
    test: Test
    throughput: Throughput
    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: Positive | None
    precision: Precision
    deterministic: bool
    results_dir: str
    data_root: str | None
    cache_dir: str | None
    overwrite: bool
    retry_failed: bool
    dry_run: bool
    until: str | float | None
    floors: list[str]
    logger: Code | None
    tune: Tune | None
    tuned: Tuned | None

    def determining(self) -> dict[str, Any]:
        """What the cell's numbers depend on, and whether they are those of a tuned learner."""
        options = of_training(self.model_dump(exclude=INCIDENTAL))
        options["dataset"] = {k: v for k, v in options["dataset"].items() if k not in PLACES}
        if self.tuned:
            options["tuned"] = self.tuned.model_dump(include={"study", "trials"})
        return options

    def stored(self) -> dict[str, Any]:
        """What is kept of a finished cell: no folder of this machine."""
        options = self.model_dump(exclude=OF_THE_COMMAND | (set() if self.tuned else {"tuned"}))
        for key in PLACES & options["dataset"].keys():
            options["dataset"][key] = last_name(options["dataset"][key])
        return options


def of_training(options: dict[str, Any]) -> dict[str, Any]:
    """Options without those of a training that there is not; by ``split``, a head has its classes."""
    if options["train"]["images"]:
        return options
    train = {key: options["train"][key] for key in ("images", "split")}
    return {key: value for key, value in options.items() if key != "validation"} | {"train": train}


def last_name(path: str | None) -> str | None:
    """The name of a file or folder without the folders that it is in."""
    return path and os.path.basename(os.path.abspath(os.path.expanduser(path)))


def read(cfg: DictConfig) -> Config:
    """Check the types of a composed configuration; raises Mistake naming the first wrong key."""
    try:
        options = Config.model_validate(OmegaConf.to_container(cfg, resolve=True))
    except ValidationError as error:
        raise mistake(error) from None
    if options.tuned and not options.tune:
        raise Mistake(
            "tuned=... says what trials have found, which is for the tuner to say: leave it out, and "
            "add tune=optuna to have trials."
        )
    return options


def option(config: Config, name: str) -> Any:
    """The value of an option such as ``train.rate``; raises KeyError when there is none."""
    group, _, key = name.partition(".")
    return getattr(config, group).model_dump()[key]


def with_options(config: Config, values: Mapping[str, Any]) -> Config:
    """A configuration with other values of options such as ``train.rate``; raises Mistake."""
    changed = config.model_dump()
    for name, value in values.items():
        group, _, key = name.partition(".")
        changed[group][key] = value
    try:
        return Config.model_validate(changed)
    except ValidationError as error:
        raise mistake(error) from None


def check_options(code: Code, group: str) -> None:
    """Check options against the parameters of the code that takes them; raises Mistake."""
    target = code.resolve()
    try:
        parameters = [
            each
            for each in inspect.signature(target, eval_str=True).parameters.values()
            if each.kind is each.KEYWORD_ONLY
        ]
        if untyped := [each.name for each in parameters if each.annotation is each.empty]:
            raise Mistake(f"{code.target} has options without a type: {', '.join(untyped)}.")
        fields = {
            each.name: (each.annotation, ... if each.default is each.empty else each.default)
            for each in parameters
        }
        model: type[BaseModel] = create_model(  # type: ignore[call-overload]
            group,
            __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False),
            **fields,
        )
        model.model_validate(code.options)
    except ValidationError as error:
        raise mistake(error, group + ".") from None
    except (PydanticUserError, NameError, TypeError) as error:
        raise Mistake(
            f"{code.target} has an option of a type that cannot be checked: {in_a_line(error)}."
        ) from None


def mistake(error: ValidationError, prefix: str = "") -> Mistake:
    """The first complaint of a ValidationError as one sentence."""
    first: Mapping[str, Any] = error.errors()[0]
    key = prefix + ".".join(str(step) for step in first["loc"] if isinstance(step, str))
    if first["type"] == "missing":
        return Mistake(f"{key} is missing.")
    message = first["msg"].replace("Input should", "it should")
    return Mistake(f"{key}={first['input']} is not possible: {message[0].lower()}{message[1:]}.")
