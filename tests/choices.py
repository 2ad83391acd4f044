"""The learners of conf/algo: those with their own module, and presets of such modules."""

from pathlib import Path

from bench.config import groups

ALGORITHMS = Path(__file__).parent.parent / "algorithms"
RULES = [name for name in groups.names("algo") if (ALGORITHMS / f"{name}.py").exists()]
SETTINGS = [name for name in groups.names("algo") if name not in RULES]
