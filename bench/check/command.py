"""``python -m bench.check``: report to the author of a learner or data set whether it obeys the laws."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import hydra
import torch

from algorithms.learner import Learner, Setting
from bench.check import choice, data, domain, laws, making
from bench.config import explain, groups, schema
from bench.config.plugins import CONF
from bench.core.errors import UserError, with_location
from bench.engine.evaluate import to_float
from bench.tasks.episodes import episodes_of

USAGE = """\
Usage: python -m bench.check MODULE:CLASS [backbone=NAME]
       python -m bench.check algo=NAME [backbone=NAME] [OPTION...]
       python -m bench.check dataset=NAME [OPTION...]

Tells whether a learner or a data set obeys the laws that all of this suite obey: one line a law, with
ok, broken and why, or skipped and why. A learner is tried in float64 on 16 x 16 grey images, on a
small Conv-4 where no backbone is given; a data set is prepared three times in a temporary folder.
  mypackage:MyLearner           a learner's class, with the defaults of its options
  algo=mine algo.inner_steps=2  a learner of conf/ or of an installed package, and its options
  algo=maml backbone=mine       a backbone, by what a learner makes of it; one of texts reads the images
                                as letters
  dataset=mine                  a data set of conf/ or of an installed package
The status is 1 when a law is broken, and 2 for a mistake in the command."""

SMALL = ["backbone=conv4", "backbone.filters=8", "backbone.downsample=stride"]


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0 if arguments else 2
    try:
        return int(checked(arguments)["broken"] > 0)
    except explain.MISTAKES as error:
        return explain.report(error)


def checked(arguments: list[str]) -> Counter[str]:
    """Check what the arguments name, print the verdicts and return their counts."""
    overrides: list[str] = []
    chosen: dict[str, str] = {}
    for argument in arguments:
        group, equals, name = argument.partition("=")
        if group in groups.GROUPS and equals:
            chosen[group] = name
        module, colon, name = argument.partition(":")
        if not (equals or colon):
            raise UserError(
                f"Cannot read {argument}: a choice is written as in algo=maml, a learner's class as in "
                "mypackage:MyLearner."
            )
        if not equals:
            overrides += [f"algo.name={name}", f"algo.target={module}.{name}"]
        else:
            overrides.append(argument)
    if "backbone" not in chosen and not any(each.startswith("encoder=") for each in overrides):
        overrides = [*SMALL, *overrides]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cell = schema.from_hydra(hydra.compose("config", overrides))

    found: Counter[str] = Counter()
    method = cell.algo.resolve()
    if not (isinstance(method, type) and issubclass(method, Learner)):
        raise UserError(f"{cell.algo.target} is not a subclass of algorithms.learner.Learner.")
    for group in groups.GROUPS:
        schema.check_options(getattr(cell, group), group)
    for group, name in chosen.items():
        print(f"{group}={name}")
        found += tell(choice.LAWS, partial(choice.Choice, group, name, getattr(cell, group)))
    if set(chosen) != {"dataset"}:
        print(f"{method.__name__} on {cell.backbone.name}")
        if method.requires_targets or method.learns_by_acting:
            raise UserError(
                f"{method.__name__} learns no classes, and the laws of learners are of tasks with "
                "classes: hold it to a plain loop over tasks in a test of your own."
            )
        with laws.threads(1), laws.default_dtype(torch.float64):
            begun = tell((making.takes_a_step,), lambda: cell)
            if not begun["broken"]:  # otherwise no other law could be checked
                begun += tell(laws.LAWS, lambda: laws.warmed_up(making.learner_of(cell)))
                begun += tell(making.LAWS, lambda: cell)
            found += begun
    if "dataset" in chosen:
        with data.folders_for(cell) as folders:
            prepared = cache(partial(data.prepared, cell, *folders))
            begun = tell((data.can_be_prepared,), prepared)
            if not begun["broken"]:
                dataset = prepared().dataset
                print(f"{dataset.name}, digest {dataset.digest[:8]}")
                begun += tell(data.LAWS, prepared)
                print(f"tasks of {dataset.name}: {dataset.domain.metric.label}")
                begun += tell(domain.LAWS, lambda: scored(prepared()))
            found += begun
    print("Laws: " + ", ".join(f"{n} {word}" for word, n in found.items()) + ".")
    return found


def scored(given: data.Prepared) -> domain.Scored:
    """Return test tasks of a data set, of the test setting of its configuration."""
    setting = Setting(given.config.ways, given.config.shots, given.config.queries)
    source = episodes_of(given.dataset, "test", setting, torch.device("cpu"), "check")
    return domain.Scored.of(given.dataset.domain, to_float(source.draw(0, domain.TASKS)))


def tell(held_to: Iterable[Callable[[Any], None]], subject: Callable[[], Any]) -> Counter[str]:
    """Check each law on a subject of its own and print the verdict; return counts by verdict."""
    found: Counter[str] = Counter()
    for law in held_to:
        word, why = verdict(law, subject)
        found[word] += 1
        name = (law.__doc__ or "").split("\n", 1)[0].rstrip(".")
        print(f"  {word:8} {name}{why and f': {why}'}", flush=True)
    return found


def verdict(law: Callable[[Any], None], subject: Callable[[], Any]) -> tuple[str, str]:
    """Return ``ok``, ``broken`` or ``skipped``, and the reason."""
    try:
        law(subject())
    except laws.NotApplicableError as skipped:
        return "skipped", str(skipped)
    except UserError:  # a user error, such as a missing archive
        raise
    except Exception as error:
        if isinstance(error, AssertionError) and (said := str(error).split("\n", 1)[0]):
            return "broken", said
        return "broken", with_location(error)
    return "ok", ""
