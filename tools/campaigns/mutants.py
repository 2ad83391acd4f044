"""``python -m tools.campaigns.mutants``: list small faults that no test detects (mutation testing).

A fault (`mutations`) replaces a module when a new process imports it; no file is changed.
That process runs the tests of the module up to the first failure. A fault is killed if a test
fails, or if the tests take many times as long as without it. Faults that survive are listed with a
reason in ``mutants.yaml``: one that is not listed there is an error.

``--planted`` tries the faults of ``planted.yaml`` instead, which were written by hand: what
an attacker would do to the runner. Each of them must be killed.
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

from tools.campaigns.mutations import Mutant, mutants

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests"
SURVIVORS = Path(__file__).with_name("mutants.yaml")
PLANTED = Path(__file__).with_name("planted.yaml")
SEEING = {  # the test files of each module, the quick ones first, and the selection of pytest
    "algorithms/backbones/__init__.py": "test_learner.py test_mlp.py test_conv4.py"
    " test_precision.py"
    " -k 'left_out or test_mlp or test_conv4 or (test_precision and metaoptnet)'",
    "algorithms/backbones/conv4.py": "test_conv4.py test_defaults.py -k conv4",
    "algorithms/backbones/conv4_wide.py": "test_conv4_wide.py test_defaults.py -k conv4_wide",
    "algorithms/backbones/mlp.py": "test_mlp.py test_defaults.py -k mlp",
    "algorithms/backbones/bytes.py": "test_bytes.py test_defaults.py -k bytes",
    "algorithms/backbones/bag.py": "test_hashed.py",
    "algorithms/backbones/hashed.py": "test_hashed.py",
    **dict.fromkeys(
        (
            f"algorithms/backbones/{name}.py"
            for name in ("bert", "minilm", "sentence", "transformer", "wordllama")
        ),
        "test_sentence.py",
    ),
    **dict.fromkeys(
        (f"algorithms/{head}.py" for head in ("centroid", "knn", "ridge", "svm", "logistic")),
        "test_heads.py -k 'not obeys'",
    ),
    **dict.fromkeys(
        (
            f"algorithms/backbones/{name}.py"
            for name in ("encoder", "features", "hog", "onnx", "timm")
        ),
        "test_encoder.py",
    ),
    "bench/datasets/features.py": "test_features.py",
    "bench/report/networks.py": "test_pretrained.py",
    "algorithms/baseline.py": "test_baseline.py test_defaults.py -k baseline",
    "algorithms/baselinepp.py": "test_baseline.py test_defaults.py -k baseline",
    "algorithms/nn/batch_norm.py": "test_batch_norm.py",
    "algorithms/classifier.py": "test_maml.py -k 'not finite'",
    "algorithms/nn/convolution.py": "test_convolution.py -k 'not finite'",
    "algorithms/features.py": "test_metaoptnet.py test_laws.py -k 'test_metaoptnet or protonet'",
    "algorithms/nn/layers.py": "test_layers.py test_conv4.py",
    "algorithms/learner.py": "test_learner.py test_laws.py test_cuda_graph.py"
    " test_precision.py"
    " -k 'test_learner or what_cannot or protonet and (depends_on_other or same_operators)'",
    "algorithms/losses.py": "test_learner.py test_regression.py test_r2d2.py test_maml.py"
    " test_optimizer.py test_laws.py"
    " -k 'test_learner or test_regression or test_r2d2 or test_maml or smoothed or r2d2'",
    "algorithms/maml.py": "test_maml.py test_defaults.py test_precision.py"
    " -k '(test_defaults and maml) or test_maml or what_cannot'",
    "algorithms/matchingnet.py": "test_matchingnet.py test_defaults.py -k matchingnet",
    "algorithms/metaoptnet.py": "test_metaoptnet.py test_defaults.py test_laws.py"
    " -k 'metaoptnet and not by_heart and not fresh_episodes and not pooled and not mlp'",
    "algorithms/nn/dropout.py": "test_dropout.py",
    "algorithms/protomaml.py": "test_protomaml.py test_defaults.py -k protomaml",
    "algorithms/protonet.py": "test_protonet.py test_laws.py -k 'protonet and not pooled'",
    "algorithms/reptile.py": "test_reptile.py test_defaults.py test_laws.py"
    " -k 'reptile and not fresh_episodes and not pooled and not mlp'",
    "algorithms/r2d2.py": "test_r2d2.py test_defaults.py -k r2d2",
    "algorithms/solvers/ridge.py": "test_ridge.py",
    "algorithms/nn/permutations.py": "test_reptile.py -k 'scrambl or minibatches'",
    "algorithms/nn/functional.py": "test_maml.py",
    "algorithms/nn/norm_statistics.py": "test_reptile.py test_laws.py"
    " -k 'test_reptile or mlp or protonet'",
    "algorithms/solvers/svm.py": "test_svm.py -k 'not finite_differences'",
    "algorithms/nn/threads.py": "test_threads.py",
    "bench/runs/cell.py": "test_laws.py test_optimizer.py test_cell.py test_distributed.py"
    " test_plugins.py test_places.py test_deterministic.py test_hostile.py"
    " test_untrained.py test_sinusoid.py"
    " -k '(test_laws and not all_learners and not data_sets_are)"
    " or odd_override or smoothed or mistakes or shared_out or in_two_splits"
    " or again_on_request or faults_of_an_author"
    " or too_small or with_its_threads or whole_recipe"
    " or all_that_it_is_trained or untouched or damaged_record or does_not_hold"
    " or one_process or as_it_is_made or nothing_was_trained or alone_trains or arithmetic"
    " or one_reading'",
    "bench/engine/evaluate.py": "test_evaluate.py test_laws.py test_cell.py -k 'test_evaluate"
    " or evaluation_leaves or first_of_equals or by_their_places or no_numbers or evaluation_out"
    " or other_errors'",
    "bench/report/leaderboard.py": "test_leaderboard.py",
    "bench/runs/run.py": "test_laws.py test_cell.py test_resume.py test_hostile.py test_loggers.py"
    " test_sinusoid.py test_training_cache.py"
    " -k '(test_laws and not all_learners and not seeds and not data_sets_are) or whole_record"
    " or (can_be_read_again and tensorboard) or its_report_has"
    " or diverging or by_their_places or test_resume or long_error or not_solved"
    " or silent_about_solving or test_training_cache or impossible_probes'",
    "bench/stats/intervals.py": "test_intervals.py"
    " -k 'not covers and not levels_and and not rarely and not careful'",
    "bench/engine/throughput.py": "test_throughput.py test_distributed_step.py test_laws.py"
    " -k 'test_throughput or speed or first_of_equals'",
    "bench/engine/train.py": "test_laws.py test_distributed_step.py test_cell.py test_cuda_graph.py"
    " test_resume.py test_distributed.py test_cuda_contract.py test_training_cache.py"
    " -k '(test_laws and not all_learners"
    " and not seeds and not data_sets_are) or test_distributed_step or out_of_memory"
    " or other_errors"
    " or diverging or off_the"
    " or schedules or (test_cuda_graph and protonet) or cannot_be_recorded or allows_it"
    " or interrupted_twice and protonet or no_more_than"
    " or stays_the_best or time_counts or saved_training or shared_training'",
    "bench/sweep/tuning.py": "test_tuning.py -k 'not learn2learn'",
    "bench/runs/verify.py": "test_verify.py test_deterministic.py"
    " -k 'test_verify or evaluated_again'",
    "bench/tasks/base.py": "test_metric.py",
    "bench/tasks/classification/domain.py": "test_evaluate.py",
    "bench/tasks/regression/domain.py": "test_sinusoid.py",
    "bench/tasks/leaks.py": "test_leaks.py",
    "bench/tasks/episodes.py": "test_episodes.py test_evaluate.py",
    "bench/core/philox.py": "test_episodes.py",
    "bench/tasks/pool.py": "test_pool.py",
}
LIBRARIES = (
    "hydra hypothesis numpy pandas pydantic pytest pytest_benchmark.plugin scipy.stats torch"
)
LIBRARIES += " torch.distributed.tensor"  # imported by torch.testing
LIBRARIES += " torch._inductor.standalone_compile"  # imported by use_deterministic_algorithms
PEERS = ("cvxpy", "learn2learn", "qpth")
"""Tests that need these are skipped: importing them takes longer than the other tests."""
MEMORY = 8 * 2**30
"""Memory limit in bytes for the tests of a fault."""
LONGEST = 600.0
"""Time limit in seconds for the tests of a file without a fault."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the faults; the exit status is 1 if one survives that is not listed."""
    parser = argparse.ArgumentParser(prog="python -m tools.campaigns.mutants", description=__doc__)
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
    """A handwritten fault, and the tests that must detect it."""

    file: str
    what: str
    source: str
    tests: str
    worst: bool


def planted() -> list[Planted]:
    """Return the faults of ``planted.yaml``.

    Raises:
        ValueError: If the text that a fault replaces is not in its file exactly once.
    """
    found = []
    for file, faults in yaml.safe_load(PLANTED.read_text()).items():
        text = (ROOT / file).read_text()
        for fault in faults:
            if text.count(fault["old"]) != 1:
                raise ValueError(f"{file} has {text.count(fault['old'])} times: {fault['old']}")
            tests = fault.get("tests", "test_laws.py -k 'not all_learners'")
            source = text.replace(fault["old"], fault["new"])
            found.append(Planted(file, fault["what"], source, tests, fault.get("worst", False)))
    return found


def plant(faults: Sequence[Planted]) -> int:
    """Try handwritten faults; the exit status is 1 if one survives."""
    outcomes: Counter[str] = Counter()
    for tests, file in {fault.tests: fault.file for fault in faults}.items():
        if outcome(file, None, LONGEST, tests) != "survived":
            raise SystemExit(f"{tests} fails without any fault.")
    for fault in faults:
        what = outcome(fault.file, fault.source, LONGEST, fault.tests)
        outcomes[what] += 1
        print(f"{what}: {fault.file}: {fault.what}", flush=True)
    print(f"{len(faults)} planted faults: {outcomes['killed']} killed.")
    return int(outcomes["killed"] < len(faults))


def of_file(file: str) -> list[Mutant]:
    """Return all faults of a file."""
    return mutants(file, (ROOT / file).read_text())


def tried(file: str, faults: Sequence[Mutant]) -> Counter[str]:
    """Try faults of one file, print those that survive, and return the counts of all outcomes."""
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
    """Return outcomes in words."""
    dead = outcomes["killed"] + outcomes["timed out"]
    share = dead / max(1, dead + outcomes["survived"])
    return (
        f"{dead} killed ({share:.1%}; {outcomes['timed out']} by time), {outcomes['survived']} survived, "
        f"{outcomes['not listed']} of those are not listed"
    )


def reasons(file: str) -> dict[str, str]:
    """Return why faults of the file survive, by their description."""
    groups = yaml.safe_load(SURVIVORS.read_text()).get(file, [])
    return {change: group["why"] for group in groups for change in group["changes"]}


def outcome(file: str, source: str | None, limit: float, tests: str = "") -> str:
    """Run the tests of a file (or `tests`) on another source: killed, timed out or survived.

    They have ``limit`` seconds. Tests that could not be run at all are reported as ``not run``: if
    the tests cannot be the cause, that counts as killed.
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
    """Run tests of a file with another source in its place; exit the process with their status."""
    import pytest
    import torch
    from hypothesis import Phase, settings

    gc.freeze()  # pytest collects garbage often: exclude the objects of the libraries
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    torch.set_num_threads(1)
    phases = [Phase.explicit, Phase.generate]
    settings.register_profile("mutants", derandomize=True, database=None, phases=phases)
    settings.load_profile("mutants")
    for peer in PEERS:
        sys.modules[peer] = None  # type: ignore[assignment]  # as if it were not installed
    if source is not None:
        sys.meta_path.insert(0, Swap(file, source))
    os._exit(pytest.main(["-x", "-p", "no:cacheprovider", *paths_of(file, tests)]))


def paths_of(file: str, tests: str) -> list[str]:
    """Return the arguments of pytest; of test files of one name, that of the nearest folder."""

    def nearness(path: Path) -> int:
        return len(os.path.commonpath([path.relative_to(TESTS), file]))

    return [
        str(max(TESTS.rglob(word), key=nearness)) if word.endswith(".py") else word
        for word in shlex.split(tests)
    ]


class Swap(SourceFileLoader):
    """Loader that imports one module of the project from another source."""

    def __init__(self, file: str, source: str) -> None:
        name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        super().__init__(name, str(ROOT / file))
        self.source = source

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Return the spec of the module if it is the requested one."""
        return (
            spec_from_file_location(fullname, self.path, loader=self)
            if fullname == self.name
            else None
        )

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled replacement source."""
        return compile(self.source, self.path, "exec")


if __name__ == "__main__":
    sys.exit(main())
