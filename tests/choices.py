"""The learners of conf/algo: those with code of their own, and settings of such code."""

from pathlib import Path

from bench import usage

ALGORITHMS = Path(__file__).parent.parent / "algorithms"
RULES = [name for name in usage.names("algo") if (ALGORITHMS / f"{name}.py").exists()]
SETTINGS = [name for name in usage.names("algo") if name not in RULES]
