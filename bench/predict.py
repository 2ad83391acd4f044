"""``python -m bench.predict``: label new photographs or texts by a few labelled ones."""

import sys
from pathlib import Path

from bench.core import process

process.configure()  # before torch is imported

from bench.config import explain
from bench.core.atomic import atomic_write
from bench.core.errors import StorageError, UserError
from bench.core.signals import run_command
from bench.runs.arguments import learner_of, parse
from bench.runs.predict import READERS, label, labelled, leave_one_out, to_csv

COMMAND = "python -m bench.predict"
USAGE = """\
Usage: python -m bench.predict RUN support=DIR images=PATTERN [output=FILE] [data_root=DIR]
       python -m bench.predict RUN support=DIR texts=FILE [output=FILE] [data_root=DIR]
       python -m bench.predict backbone=... [algo=ridge] support=DIR images=PATTERN [...]
       python -m bench.predict encoder=... [algo=ridge] support=DIR texts=FILE [...]

Fits a learner to the images of DIR, which has a sub-folder for each class, and writes FILE
(predictions.csv when not given) with a line for each image that PATTERN finds, such as 'new/*.jpg', or
that is in a folder of that name: file, label, probability, runner-up, and unsure (yes or no). It first
says how many of the images of DIR are labelled correctly by a learner fitted to all others.

Of texts, DIR has a .txt file for each class, with a text a line, or is a .csv file of text and label;
texts=FILE has a text a line, or is a .csv file with a column text.

The learner is that of a stored run, such as results/runs/protonet-...; or a head without training
(algo=ridge, centroid, knn, svm or logistic) on a pretrained, frozen backbone, such as backbone=timm
backbone.model=..., backbone=onnx backbone.weights=FILE, backbone=run backbone.path=RUN, that of a
stored run, or, of texts, encoder=minilm or wordllama. data_root is where weights are looked for."""


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status: 0, or that of a `UserError`."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    try:
        parsed = parse(COMMAND, arguments, ("support",), *READERS, "output")
        learner = learner_of(parsed)
        kind = learner.inputs.kind
        if READERS.keys() & parsed.values.keys() != {kind}:
            raise UserError(f"Give {kind}=... alone: what this {learner.name} labels are {kind}.")
        examples = READERS[kind](parsed.values[kind])
        learner.fit(*labelled(learner, parsed.values["support"]))
        found = leave_one_out(learner)
        print("\n".join(found.sentences), flush=True)
        predictions = label(learner, examples, found.threshold)
        output = Path(parsed.values.get("output", "predictions.csv"))
        try:
            atomic_write(output, to_csv(predictions, kind))
        except OSError as error:
            raise StorageError(f"Cannot write {output} ({error.strerror}).") from None
    except explain.MISTAKES as error:
        return explain.report(error)
    unsure = sum(each.unsure == "yes" for each in predictions)
    print(
        f"{output}: labels of {len(predictions)} {kind}" + (f", {unsure} unsure" if unsure else "")
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
