"""``python -m bench.check``: check whether a learner or a data set obeys the laws."""

import sys

from bench.core import process

process.configure()  # before torch is imported

from bench.check.command import main
from bench.core.signals import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
