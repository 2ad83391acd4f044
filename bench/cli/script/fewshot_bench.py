"""``fewshot-bench``: the commands of this suite under one name that no other package has."""

import runpy
import sys

COMMANDS = {
    "run": "run one cell, or with -m a sweep of cells: python -m bench",
    "report": "rebuild tables and figures from the stored runs: python -m bench.report",
    "probe": "evaluate finished runs under other conditions: python -m bench.probe",
    "predict": "label new photographs by a trained learner: python -m bench.predict",
    "export": "write that learner as an ONNX file: python -m bench.export",
    "verify": "evaluate stored runs again and compare: python -m bench.verify",
    "status": "which cells of a sweep are done: python -m bench.status",
    "plan": "forecast the cost of a sweep: python -m bench.plan",
    "reproduce": "run the published cells: python -m bench.reproduce",
    "check": "does a learner or a data set obey the laws: python -m bench.check",
}
USAGE = "\n".join(
    [
        "Usage: fewshot-bench COMMAND [ARGUMENT...]\n",
        *(f"  {name:<10} {sentence}" for name, sentence in COMMANDS.items()),
        "\nfewshot-bench COMMAND --help tells its arguments.",
    ]
)


def main() -> int:
    """Run the command that the first argument names, as ``python -m`` does; return its exit status."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(USAGE)
        return 0
    if name not in COMMANDS:
        message = f"There is no command {name!r}, but {', '.join(COMMANDS)}"
        print(f"error: {message}; see fewshot-bench --help.", file=sys.stderr)
        return 2
    if wrong := in_the_way():
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    sys.argv[1:] = arguments
    module = "bench" if name == "run" else f"bench.{name}"
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def in_the_way() -> str | None:
    """Return a sentence on another package that hides one of ours, None if there is none."""
    try:
        import bench
    except ImportError as error:
        return str(error)
    if getattr(bench, "DISTRIBUTION", None) == "fewshot-bench":
        return None
    return (
        f"Another package called bench hides that of fewshot-bench, in {bench.__file__}: uninstall "
        "it, or install fewshot-bench into an environment of its own."
    )
