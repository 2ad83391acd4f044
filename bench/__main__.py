"""``python -m bench``: run one cell, or with ``-m`` a sweep of cells."""

from bench.core import process

process.configure()  # before torch is imported

from bench.cli.command import command
from bench.core.signals import run_command
from bench.engine.distributed import exit_process

if __name__ == "__main__":
    exit_process(run_command(command))
