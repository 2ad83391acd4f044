"""The type of every key of conf/, checked before any work is done.

The meaning of each key is documented beside it in conf/; ``python -m bench --help`` prints both.
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

from bench.core.errors import UserError, one_line, with_location

# The bounds are those of the numbers that a record can hold.
Positive = Annotated[int, Field(ge=1, lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Ways = Annotated[int, Field(ge=2, lt=2**31)]
Episodes = Annotated[int, Field(ge=2, lt=2**31)]
Share = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["fp32", "tf32", "bf16"]


class Strict(BaseModel):
    """Base class of all sections: frozen, strictly typed, without unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Component(Strict):
    """A learner, backbone or data set: code named by ``target``, such as ``algorithms.maml.MAML``.

    The other keys are options, typed by the keyword-only parameters of that code.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    target: str

    @property
    def options(self) -> dict[str, Any]:
        """The options: all keys besides ``name`` and ``target``."""
        return self.model_extra or {}

    def resolve(self) -> Callable[..., Any]:
        """Return the callable that ``target`` names; raise UserError if there is none."""
        module, _, attribute = self.target.rpartition(".")
        try:
            result: Callable[..., Any] = getattr(import_module(module), attribute)
            return result
        except (ImportError, AttributeError, ValueError) as error:
            why = str(error)
        except (Exception, SystemExit) as error:  # importing code may raise anything
            why = with_location(error)
        raise UserError(f"{self.name!r} cannot be loaded from {self.target!r}: {why}.")


class Train(Strict):
    """The options of meta-training."""

    examples: Count
    meta_batch: Positive
    ways: Ways | None
    shots: Positive | None
    queries: Count
    split: Literal["train", "train+val"]
    optimizer: Literal["adam", "sgd"]
    momentum: Share
    weight_decay: Annotated[float, Field(ge=0)]
    lr: Annotated[float, Field(gt=0)]
    lr_schedule: Literal["constant", "linear", "cosine", "step", "multistep"]
    step_size: Positive
    milestones: list[Share]
    lr_factors: list[Annotated[float, Field(gt=0)]]
    clip_value: Annotated[float, Field(gt=0)] | None
    label_smoothing: Share
    crop_padding: Count
    flip: bool
    jitter: Annotated[float, Field(ge=0, le=1)]


class Validation(Strict):
    """The options of validation during training."""

    times: Positive
    episodes: Episodes


class Test(Strict):
    """The options of the final test."""

    episodes: Episodes


class Throughput(Strict):
    """The options of the throughput measurement."""

    seconds: Annotated[float, Field(ge=0, le=3600)]


class Range(Strict):
    """The range in which an option is tuned."""

    model_config = ConfigDict(allow_inf_nan=True)  # checked by `bench.sweep.tuning`

    low: int | float
    high: int | float
    scale: Literal["linear", "log"]


class Tune(Strict):
    """The options of hyperparameter tuning."""

    n_trials: Positive
    examples: Positive
    n_startup_trials: Positive
    batch_size: Positive
    seed: Count
    trial: Annotated[str, Field(pattern=r"^[\w.+-]+/\d+$")] | None
    space: dict[Literal["algo", "train"], dict[str, Range]]

    @property
    def ranges(self) -> dict[str, Range]:
        """The range of each tuned option, by its name such as ``train.lr``."""
        return {f"{group}.{key}": r for group, own in self.space.items() for key, r in own.items()}

    def first_of_batch(self, number: int) -> int:
        """Return the first trial of the batch of a trial, which sees only the trials before it."""
        return number // self.batch_size * self.batch_size


class Tuned(Strict):
    """The origin of the options of a tuned cell.

    ``trial_examples`` is the budget of a trial; ``n_startup_trials`` and ``batch_size`` are as in
    `Tune`. ``examples`` and ``seconds`` are those of training in all
    trials, ``first`` and ``best`` the validation scores of the learner's default options and of
    the chosen ones.
    """

    study: Annotated[str, Field(pattern=r"^[\w+-][\w.+-]*$", max_length=200)]
    n_trials: Positive
    trial_examples: Positive
    n_startup_trials: Positive
    batch_size: Positive
    stopped: Count
    failed: Count
    examples: Count
    seconds: Annotated[float, Field(ge=0)]
    first: float
    best: float
    options: list[str]

    @property
    def budget(self) -> str:
        """The budget of the search, which must be equal for learners to be comparable."""
        return (
            f"{self.n_trials} trials of {self.trial_examples:,} examples with n_startup_trials "
            f"{self.n_startup_trials} and batch_size {self.batch_size}"
        )


RUNTIME_KEYS = {
    *("results_dir", "data_root", "cache_dir", "threads"),
    *("overwrite", "retry_failed", "dry_run", "until", "tune", "logger", "floors"),
}
"""Runtime-only keys, such as paths, which are not stored. A row records ``threads`` as a fact."""
PLACES = {"path", "splits"}
"""Options of data sets that are paths; only their last component is stored."""
WEIGHTS = {"path", "weights"}
"""Those of backbones, whose ``digest`` tells weights apart."""
NOT_IN_DIGEST = RUNTIME_KEYS | {"throughput", "tuned"}
"""Keys that do not affect a cell's numbers, or only through the data, which has its own digest."""


class Config(Strict):
    """The configuration of one cell."""

    algo: Component
    backbone: Component
    dataset: Component
    ways: Ways | None
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
    logger: Component | None
    tune: Tune | None
    tuned: Tuned | None

    def identity(self) -> dict[str, Any]:
        """Return the options that a cell's numbers depend on, and the study that tuned them."""
        options = of_training(self.model_dump(exclude=NOT_IN_DIGEST))
        options |= without_places(options)
        if self.tuned:
            options["tuned"] = self.tuned.model_dump(include={"study", "n_trials"})
        return options

    def stored(self) -> dict[str, Any]:
        """Return what is stored of the configuration of a finished cell, without local folders."""
        options = self.model_dump(exclude=RUNTIME_KEYS | (set() if self.tuned else {"tuned"}))
        for group, places in (("dataset", PLACES), ("backbone", WEIGHTS)):
            for key in places & options[group].keys():
                options[group][key] = last_name(options[group][key])
        return options


def without_places(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of data set and backbone without those that are paths."""
    return {
        "dataset": {k: v for k, v in options["dataset"].items() if k not in PLACES},
        "backbone": {k: v for k, v in options["backbone"].items() if k not in WEIGHTS},
    }


def of_training(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options without training options that have no effect when nothing is trained.

    ``split`` is kept, since the training classes of a head depend on it.
    """
    if options["train"]["examples"]:
        return options
    train = {key: options["train"][key] for key in ("examples", "split")}
    return {key: value for key, value in options.items() if key != "validation"} | {"train": train}


def last_name(path: str | None) -> str | None:
    """Return the last component of a path."""
    return path and os.path.basename(os.path.abspath(os.path.expanduser(path)))


def from_hydra(cfg: DictConfig) -> Config:
    """Check the types of a composed configuration; raise UserError naming the first wrong key."""
    for key in sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{key} is missing: give {key}=...")
    try:
        options = Config.model_validate(OmegaConf.to_container(cfg, resolve=True))
    except ValidationError as error:
        raise user_error(error) from None
    if options.tuned and not options.tune:
        raise UserError(
            "tuned=... says what trials have found, which is for the tuner to say: leave it out, and "
            "add tune=optuna to have trials."
        )
    return options


def option(config: Config, name: str) -> Any:
    """Return the value of an option such as ``train.lr``; raise KeyError if there is none."""
    group, _, key = name.partition(".")
    return getattr(config, group).model_dump()[key]


def with_options(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the configuration with other values of options such as ``train.lr``.

    Raises:
        UserError: If a value is not valid.
    """
    changed = config.model_dump()
    for name, value in values.items():
        group, _, key = name.partition(".")
        changed[group][key] = value
    try:
        return Config.model_validate(changed)
    except ValidationError as error:
        raise user_error(error) from None


def check_options(code: Component, group: str) -> None:
    """Check options against the parameters of the code that takes them; raise UserError."""
    target = code.resolve()
    try:
        parameters = [
            each
            for each in inspect.signature(target, eval_str=True).parameters.values()
            if each.kind is each.KEYWORD_ONLY
        ]
        if untyped := [each.name for each in parameters if each.annotation is each.empty]:
            raise UserError(f"{code.target} has options without a type: {', '.join(untyped)}.")
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
        raise user_error(error, group + ".") from None
    except (PydanticUserError, NameError, TypeError) as error:
        raise UserError(
            f"{code.target} has an option of a type that cannot be checked: {one_line(error)}."
        ) from None


def user_error(error: ValidationError, prefix: str = "") -> UserError:
    """Return the first error of a ValidationError as one sentence."""
    first: Mapping[str, Any] = error.errors()[0]
    key = prefix + ".".join(str(step) for step in first["loc"] if isinstance(step, str))
    if first["type"] == "missing":
        return UserError(f"{key} is missing.")
    message = first["msg"].replace("Input should", "it should")
    return UserError(f"{key}={first['input']} is invalid: {message[0].lower()}{message[1:]}.")
