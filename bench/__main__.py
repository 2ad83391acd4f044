"""``python -m bench``: run one cell, or with ``-m`` a sweep of cells."""

import sys

from bench.core import process

process.configure()  # before torch is imported

from bench.cli.command import command
from bench.core.signals import run_command

if __name__ == "__main__":
    sys.exit(run_command(command))
