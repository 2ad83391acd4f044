"""``python -m tests.mutants``: make small faults in the code one by one, and tell which no test sees.

A fault (`tests.mutations`) takes the place of a module when a new process imports it; no file is changed.
That process runs the tests of the module up to the first that fails. A fault is killed when a test fails,
or when the tests take many times as long as without it. Faults that survive are listed with a reason
in ``tests/mutants.yaml``: one that is not listed there is an error.

``--planted`` tries the faults of ``tests/planted.yaml`` instead, which were made up by hand: what an
attacker would do to the runner. Each of them must be killed.
"""

import argparse
import gc
import multiprocessing
import os
import random
import resource
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import yaml

from tests.mutations import Mutant, mutants

TESTS = Path(__file__).parent
SURVIVORS = TESTS / "mutants.yaml"
PLANTED = TESTS / "planted.yaml"
SEEING = {  # the tests of each file, the quick ones first, as pytest wants them in their folder
    "algorithms/backbones/__init__.py": "test_learner.py test_mlp.py test_conv4.py"
    " ../bench/test_precision.py"
    " -k 'left_out or test_mlp or test_conv4 or (test_precision and metaoptnet)'",
    "algorithms/backbones/conv4.py": "test_conv4.py test_defaults.py -k conv4",
    "algorithms/backbones/conv4_wide.py": "test_conv4_wide.py test_defaults.py -k conv4_wide",
    "algorithms/backbones/mlp.py": "test_mlp.py test_defaults.py -k mlp",
    "algorithms/baseline.py": "test_baseline.py test_defaults.py -k baseline",
    "algorithms/baselinepp.py": "test_baseline.py test_defaults.py -k baseline",
    "algorithms/batch_norm.py": "test_batch_norm.py",
    "algorithms/classifier.py": "test_maml.py -k 'not finite'",
    "algorithms/convolution.py": "test_convolution.py -k 'not finite'",
    "algorithms/features.py": "test_metaoptnet.py test_laws.py -k 'test_metaoptnet or protonet'",
    "algorithms/layers.py": "test_layers.py test_conv4.py",
    "algorithms/learner.py": "test_learner.py test_laws.py ../bench/test_graph.py"
    " ../bench/test_precision.py"
    " -k 'test_learner or what_cannot or protonet and (depends_on_other or same_operators)'",
    "algorithms/maml.py": "test_maml.py test_defaults.py ../bench/test_precision.py"
    " -k '(test_defaults and maml) or test_maml or what_cannot'",
    "algorithms/matchingnet.py": "test_matchingnet.py test_defaults.py -k matchingnet",
    "algorithms/metaoptnet.py": "test_metaoptnet.py test_defaults.py test_laws.py"
    " -k 'metaoptnet and not by_heart and not fresh_episodes and not pooled and not mlp'",
    "algorithms/noise.py": "test_noise.py",
    "algorithms/protomaml.py": "test_protomaml.py test_defaults.py -k protomaml",
    "algorithms/protonet.py": "test_protonet.py test_laws.py -k 'protonet and not pooled'",
    "algorithms/reptile.py": "test_reptile.py test_defaults.py test_laws.py"
    " -k 'reptile and not fresh_episodes and not pooled and not mlp'",
    "algorithms/r2d2.py": "test_r2d2.py test_defaults.py -k r2d2",
    "algorithms/ridge.py": "test_ridge.py",
    "algorithms/shuffles.py": "test_reptile.py -k 'scrambl or minibatches'",
    "algorithms/stateless.py": "test_maml.py",
    "algorithms/statistics.py": "test_reptile.py test_laws.py -k 'test_reptile or mlp or protonet'",
    "algorithms/svm.py": "test_svm.py -k 'not finite_differences'",
    "algorithms/threads.py": "test_threads.py",
    "bench/cell.py": "test_laws.py test_recipe.py test_cell.py test_world.py test_extensions.py"
    " test_places.py test_deterministic.py -k '(test_laws and not all_learners and not data_sets_are)"
    " or smoothed or mistakes or shared_out or in_two_splits or again_on_request or faults_of_an_author"
    " or too_small or all_that_it_is_trained or untouched or arithmetic or one_reading'",
    "bench/evaluate.py": "test_evaluate.py test_laws.py test_cell.py -k 'test_evaluate"
    " or evaluation_leaves or first_of_equals or by_their_places or no_numbers or evaluation_out"
    " or other_errors'",
    "bench/report/leaderboard.py": "test_leaderboard.py",
    "bench/running.py": "test_laws.py test_cell.py test_resume.py test_hostile.py"
    " -k '(test_laws and not all_learners and not seeds and not data_sets_are) or whole_record"
    " or diverging or by_their_places or test_resume or long_error'",
    "bench/stats.py": "test_stats.py -k 'not covers and not levels_and and not rarely and not careful'",
    "bench/throughput.py": "test_throughput.py test_shared_steps.py test_laws.py"
    " -k 'test_throughput or speed or first_of_equals'",
    "bench/train.py": "test_laws.py test_shared_steps.py test_cell.py test_graph.py test_resume.py"
    " test_world.py test_cuda_contract.py test_kept.py -k '(test_laws and not all_learners"
    " and not seeds and not data_sets_are) or test_shared_steps or out_of_memory or other_errors"
    " or diverging or off_the"
    " or schedules or (test_graph and protonet) or interrupted_twice and protonet or no_more_than"
    " or time_counts or saved_training or shared_training'",
    "bench/tuning.py": "test_tuning.py",
    "bench/verify/__init__.py": "test_verify.py test_deterministic.py"
    " -k 'test_verify or evaluated_again'",
    "bench/data/episodes.py": "test_episodes.py ../test_evaluate.py",
    "bench/data/philox.py": "test_episodes.py",
    "bench/data/pool.py": "test_pool.py",
}
LIBRARIES = (
    "hydra hypothesis numpy pandas pydantic pytest pytest_benchmark.plugin scipy.stats torch"
)
LIBRARIES += " torch.distributed.tensor"  # which torch.testing imports
LIBRARIES += " torch._inductor.standalone_compile"  # which torch.use_deterministic_algorithms does
PEERS = ("cvxpy", "learn2learn", "qpth")
"""Tests that need these are skipped: to import them takes longer than the other tests."""
MEMORY = 8 * 2**30
"""Most bytes that the tests of a fault may take."""
LONGEST = 600.0
"""Seconds that the tests of a file may take without a fault."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the faults; the status is 1 when one survives that is not listed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--files", nargs="+", choices=SEEING, default=list(SEEING), metavar="FILE")
    parser.add_argument("--only", default="", help="faults with this text in their description")
    parser.add_argument("--sample", type=int, help="so many of the faults, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--planted", action="store_true", help="the faults of planted.yaml")
    given = parser.parse_args(arguments)
    if given.planted:
        return plant([fault for fault in planted() if given.only in fault.what])
    faults = [m for file in given.files for m in of_file(file) if given.only in m.change]
    if given.sample is not None:
        faults = random.Random(given.seed).sample(faults, min(given.sample, len(faults)))
    begun = time.monotonic()
    totals: Counter[str] = Counter()
    for file in given.files:
        totals += tried(file, [fault for fault in faults if fault.file == file])
    minutes = (time.monotonic() - begun) / 60
    print(f"{len(faults)} faults in {minutes:.0f} minutes: {told(totals)}.")
    return int(totals["not listed"] > 0)


class Planted(NamedTuple):
    """A fault made up by hand, and the tests that must see it."""

    file: str
    what: str
    source: str
    tests: str
    worst: bool


def planted() -> list[Planted]:
    """The faults of ``tests/planted.yaml``; raises ValueError where what one replaces is not there."""
    found = []
    for file, faults in yaml.safe_load(PLANTED.read_text()).items():
        text = (TESTS.parent / file).read_text()
        for fault in faults:
            if text.count(fault["old"]) != 1:
                raise ValueError(f"{file} has {text.count(fault['old'])} times: {fault['old']}")
            tests = fault.get("tests", "test_laws.py -k 'not all_learners'")
            source = text.replace(fault["old"], fault["new"])
            found.append(Planted(file, fault["what"], source, tests, fault.get("worst", False)))
    return found


def plant(faults: Sequence[Planted]) -> int:
    """Try faults made up by hand; the status is 1 when one survives."""
    outcomes: Counter[str] = Counter()
    for (tests, _), file in {
        (fault.tests, folder_of(fault.file)): fault.file for fault in faults
    }.items():
        if outcome(file, None, LONGEST, tests) != "survived":
            raise SystemExit(f"{tests} fails without any fault.")
    for fault in faults:
        what = outcome(fault.file, fault.source, LONGEST, fault.tests)
        outcomes[what] += 1
        print(f"{what}: {fault.file}: {fault.what}", flush=True)
    print(f"{len(faults)} planted faults: {outcomes['killed']} killed.")
    return int(outcomes["killed"] < len(faults))


def of_file(file: str) -> list[Mutant]:
    """All faults of a file."""
    return mutants(file, (TESTS.parent / file).read_text())


def tried(file: str, faults: Sequence[Mutant]) -> Counter[str]:
    """Try faults of one file; prints those that survive, and gives the numbers of all outcomes."""
    if not faults:
        return Counter()
    begun = time.monotonic()
    if outcome(file, None, LONGEST) != "survived":
        raise SystemExit(f"The tests of {file} fail without any fault.")
    limit = 30 + 4 * (time.monotonic() - begun)
    known = reasons(file)
    outcomes: Counter[str] = Counter()
    for fault in faults:
        what = outcome(file, fault.source, limit)
        outcomes["killed" if what == "not run" else what] += 1
        if what == "survived":
            outcomes["not listed"] += fault.change not in known
            why = known.get(fault.change, "NOT LISTED")
            print(f"survived: {file}:{fault.line} {fault.change} ({why})", flush=True)
    seconds = time.monotonic() - begun
    print(f"{file}: {len(faults)} faults in {seconds:.0f} s: {told(outcomes)}", flush=True)
    return outcomes


def told(outcomes: Counter[str]) -> str:
    """Outcomes in words."""
    dead = outcomes["killed"] + outcomes["timed out"]
    share = dead / max(1, dead + outcomes["survived"])
    return (
        f"{dead} killed ({share:.1%}; {outcomes['timed out']} by time), {outcomes['survived']} survived, "
        f"{outcomes['not listed']} of those are not listed"
    )


def reasons(file: str) -> dict[str, str]:
    """Why faults of the file survive, by their description."""
    groups = yaml.safe_load(SURVIVORS.read_text()).get(file, [])
    return {change: group["why"] for group in groups for change in group["changes"]}


def outcome(file: str, source: str | None, limit: float, tests: str = "") -> str:
    """What the tests of a file, or some, make of another source: killed, timed out or survived.

    They have ``limit`` seconds. Tests that could not be run at all are told as ``not run``: where
    that cannot be the fault of the tests, it is as good as killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES.split())
    process = context.Process(target=test, args=(file, source, tests or SEEING[file]))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return "timed out"
    return {0: "survived", 1: "killed"}.get(process.exitcode or 0, "not run")


def test(file: str, source: str | None, tests: str) -> None:
    """Run tests of a file with another source in its place; this process ends with their status."""
    import pytest
    import torch
    from hypothesis import Phase, settings

    gc.freeze()  # pytest collects garbage often, and shall not look for it in the libraries
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.chdir(folder_of(file))
    torch.set_num_threads(1)
    phases = [Phase.explicit, Phase.generate]
    settings.register_profile("mutants", derandomize=True, database=None, phases=phases)
    settings.load_profile("mutants")
    for peer in PEERS:
        sys.modules[peer] = None  # type: ignore[assignment]  # as if it were not installed
    if source is not None:
        sys.meta_path.insert(0, Swap(file, source))
    os._exit(pytest.main(["-x", "-p", "no:cacheprovider", *shlex.split(tests)]))


def folder_of(file: str) -> Path:
    """The folder of a file's tests."""
    folder = TESTS / Path(file).parent
    return folder if folder.exists() else folder.parent


class Swap(SourceFileLoader):
    """Imports one module of the project from another source."""

    def __init__(self, file: str, source: str) -> None:
        name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        super().__init__(name, str(TESTS.parent / file))
        self.source = source

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """The module, if it is asked for."""
        return (
            spec_from_file_location(fullname, self.path, loader=self)
            if fullname == self.name
            else None
        )

    def get_code(self, fullname: str) -> CodeType:
        """Its other code."""
        return compile(self.source, self.path, "exec")


if __name__ == "__main__":
    sys.exit(main())
