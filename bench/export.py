"""``python -m bench.export``: write a fitted learner as a self-contained ONNX file."""

import sys
from pathlib import Path

from bench.core import process

process.configure()  # before torch is imported

from bench.config import explain
from bench.core.atomic import atomic_write
from bench.core.errors import StorageError
from bench.core.signals import run_command
from bench.runs.arguments import learner_of, parse
from bench.runs.export import export
from bench.runs.predict import labelled

COMMAND = "python -m bench.export"
USAGE = """\
Usage: python -m bench.export RUN support=DIR [output=FILE] [data_root=DIR]
       python -m bench.export backbone=... [algo=ridge] support=DIR [output=FILE] [...]

Fits a learner to the images of DIR, as python -m bench.predict does, and writes backbone and head
together to FILE (model.onnx when not given). Its input `pixels` is uint8 [B, C, H, W], its output
`probabilities` [B, N]; its metadata hold the N `classes`, and in `images` and `encoder` how an image
is prepared. Learners that fit a head to features can be written, and no others. The file is run once by
ONNX Runtime, whose answers must be those of the learner."""


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status: 0, or that of a `UserError`."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        parsed = parse(COMMAND, arguments, ("support",), "output")
        learner = learner_of(parsed)
        content, difference = export(learner.fit(*labelled(learner, parsed.values["support"])))
        output = Path(parsed.values.get("output", "model.onnx"))
        try:
            atomic_write(output, content)
        except OSError as error:
            raise StorageError(f"Cannot write {output} ({error.strerror}).") from None
    except explain.MISTAKES as error:
        return explain.report(error)
    print(
        f"{output}: {len(content) / 2**20:.1f} MiB; on the support images, ONNX Runtime gives the "
        f"probabilities of the learner within {difference:.0e}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
