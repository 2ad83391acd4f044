"""Runner of checks within a time limit: one line per check, failures in full at the end."""

import json
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

Check = Callable[[], tuple[bool, str]]
"""Returns whether the check passed, and what was measured."""
TRACES = 6
"""Maximum number of failures printed in full."""


@dataclass
class Outcome:
    """Result of a check; ``passed`` is None if it was not run for lack of time."""

    name: str
    passed: bool | None
    detail: str
    seconds: float = 0.0
    trace: str = ""
    warnings: list[str] = field(default_factory=list)


def run(checks: dict[str, Check], seconds: float, file: Path) -> bool:
    """Run checks for at most `seconds`, write outcomes to `file`, return whether none failed."""
    begun = time.monotonic()
    outcomes = []
    for name, check in checks.items():
        if time.monotonic() - begun > seconds:
            outcomes.append(Outcome(name, None, "out of time"))
            continue
        outcomes.append(outcome := outcome_of(name, check))
        mark = "ok  " if outcome.passed else "FAIL"
        print(f"{mark} {name:52} {outcome.seconds:6.1f} s  {outcome.detail}", flush=True)
    file.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    tell(outcomes)
    return not any(outcome.passed is False for outcome in outcomes)


def outcome_of(name: str, check: Check) -> Outcome:
    """Run one check; an exception is a failure."""
    start = time.monotonic()
    trace = ""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            passed, detail = check()
        except Exception as error:
            said = str(error).split("\n", 1)[0]
            passed, detail = False, f"{type(error).__name__}: {said}"[:200]
            trace = traceback.format_exc()
    said = sorted({str(each.message).split("\n", 1)[0][:160] for each in warned})
    return Outcome(name, passed, detail, time.monotonic() - start, trace, said)


def tell(outcomes: list[Outcome]) -> None:
    """Print one trace of each kind of failure, the warnings, and the numbers."""
    traces = {each.trace.strip().rpartition("\n")[2]: each for each in outcomes if each.trace}
    for outcome in list(traces.values())[:TRACES]:
        print(f"\n--- {outcome.name}\n{outcome.trace}")
    for said in sorted({said for each in outcomes for said in each.warnings}):
        print(f"warning: {said}")
    counts = [sum(each.passed is passed for each in outcomes) for passed in (True, False, None)]
    print("\n{} passed, {} failed, {} not run".format(*counts))
