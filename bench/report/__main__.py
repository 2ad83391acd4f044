"""``python -m bench.report``: rebuild tables and figures from the stored runs."""

import sys

from bench.core.signals import run_command
from bench.report.command import main

if __name__ == "__main__":
    sys.exit(run_command(main))
