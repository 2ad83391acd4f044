"""Execution of a function in another process, with another hash seed."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

# Not multiprocessing, which would run the calling script again.
CHILD = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
answer, sys.stdout = sys.stdout.buffer, sys.stderr
function, arguments = pickle.load(sys.stdin.buffer)
try:
    found = function(*arguments), None
except Exception as error:
    found = None, error
pickle.dump(found, answer)
"""


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in another process with another hash seed; return its result or raise its error."""
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=pickle.dumps(sys.path) + pickle.dumps((function, arguments)),
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONHASHSEED": seed},
        check=True,
    )
    found, error = pickle.loads(done.stdout)
    if error:
        raise error
    return found
