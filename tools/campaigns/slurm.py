"""``python -m tools.campaigns.slurm``: run sweeps as jobs of a real local SLURM.

It starts a one-node cluster (munged, slurmctld, slurmd) as this user, in a temporary folder and on
free ports, and shuts it down. Each of three trials must end with episodes, histories and parameters
that are bit-identical to those of the same cells run without SLURM:

- sweep: that of `launchers`; its command is killed midway, and repeated while its jobs
  continue,
- time_limit: a cell that takes longer than the time limit of its job; the first command allows no
  time-out and fails, and the repeated command finishes over several jobs,
- kills: one job of a sweep is killed and one cancelled; the command reports it, and is repeated.

On two cores it takes about half an hour, as jobs last at least a minute.
"""

import argparse
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.core.signals import RESUMABLE, run_command
from bench.report import read
from tools.campaigns.faults import ROOT, differences
from tools.campaigns.launchers import CELLS, SMALL, campaign

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
LONG = ["algo=protonet", "backbone.filters=32"]
LONG_SECONDS = 300.0
"""Training time of `LONG`: three jobs of two minutes, which get the signal after 50 to 110 s."""
JOBS = ["launcher=slurm"]
KILLED = ["algo=maml,protonet", "seed=3,4", "backbone.filters=32", "train.examples=60000"]
CONF = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def main() -> int:
    """Run the campaign; the exit status is 1 if something went wrong, 2 without SLURM."""
    trials = {trial.__name__: trial for trial in (sweep, time_limit, kills)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"{', '.join(trials)} (all)")
    chosen = parser.parse_args().trials or list(trials)
    if unknown := set(chosen) - set(trials):
        parser.error(f"there is no trial {', '.join(unknown)}; choose of {', '.join(trials)}")
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    if missing := [program for program in PROGRAMS if not shutil.which(program)]:
        print(
            f"error: {', '.join(missing)} not found; on Debian: apt-get install slurm-wlm munge",
            file=sys.stderr,
        )
        return 2
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)  # required by munged
        with cluster(root / "slurm"):
            for name in chosen:
                start = time.monotonic()
                found = trials[name](root / name)
                print(f"{name}: {'; '.join(found) or 'as without SLURM'}", end="")
                print(f" ({time.monotonic() - start:.0f} s)", flush=True)
                wrong += found
    return int(bool(wrong))


@contextmanager
def cluster(root: Path) -> Iterator[None]:
    """Run a one-node SLURM on this machine in the context; SLURM's commands then connect to it."""
    for name in ("state", "spool"):
        (root / name).mkdir(parents=True)
    key, conf = root / "munge.key", root / "slurm.conf"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    conf.write_text(
        CONF.format(
            root=root,
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            ports=free_ports(2),
            cores=os.cpu_count(),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10,
        )
    )
    os.environ["SLURM_CONF"] = str(conf)
    munge = [f"--key-file={key}", f"--socket={root}/munge.socket", f"--pid-file={root}/munged.pid"]
    munge += [f"--log-file={root}/munged.log", f"--seed-file={root}/munged.seed", "--force"]
    with ExitStack() as stack:
        for command in (["munged", "--foreground", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]):
            stack.enter_context(running(command, root / f"{command[0]}.output"))
            time.sleep(1)
        wait_for(lambda: "idle" in asked("sinfo", "--noheader"), 60)
        try:
            yield
        finally:
            asked("scancel", "--user", getpass.getuser())
            wait_for(lambda: not asked("squeue", "--noheader"), 60)


@contextmanager
def running(command: list[str], output: Path) -> Iterator[None]:
    """Run a program in the context, and terminate it at the end."""
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def asked(*command: str) -> str:
    """Return the standard output of a command."""
    return subprocess.run(command, capture_output=True, text=True).stdout


def wait_for(found: Callable[[], object], seconds: float) -> None:
    """Wait until `found` returns something truthy; raise TimeoutError after `seconds`."""
    until = time.monotonic() + seconds
    while not found():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.5)


def ran(results: Path, *arguments: str) -> tuple[int, str]:
    """Run a sweep and return its exit status and output."""
    command = ["-m", "bench", "-m", *SMALL, *arguments, f"results_dir={results}"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def logs(results: Path) -> str:
    """Return the output of all jobs."""
    return "\n".join(
        path.read_text(errors="replace") for path in results.glob("sweeps/*/jobs/*/*.out")
    )


def sweep(root: Path) -> list[str]:
    """Run the 24 cells of `CELLS` with a command that is killed."""
    return campaign(root, CELLS, ["slurm"])


def time_limit(root: Path) -> list[str]:
    """Run a cell that needs several jobs."""
    images = 6000
    ran(root / "short", *LONG, f"train.examples={images}", "threads=1")
    (row,) = read(root / "short")[0]
    long = [*LONG, f"train.examples={int(images * LONG_SECONDS / row['train_seconds'])}"]
    ran(root / "whole", *long, "threads=1")
    job = [*long, *JOBS, "hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=10"]
    wrong = []
    status, output = ran(root / "slurm", *job, "hydra.launcher.max_num_timeout=0")
    if status != 1 or "timed-out too many times" not in output:
        wrong.append(f"one time-out too many ended with {status}: {output[-500:]}")
    status, output = ran(root / "slurm", *job)
    if status:
        wrong.append(f"the repeated command ended with {status}: {output[-500:]}")
    said = logs(root / "slurm")
    if said.count(" resumes at step ") < 2 or "Requeued job" not in said:
        wrong.append("no job was requeued and went on from what was saved")
    return wrong or differences(root / "whole", root / "slurm")


def kills(root: Path) -> list[str]:
    """Run a sweep of which one job is killed and one is cancelled."""
    ran(root / "whole", *KILLED, "threads=1")
    results, wrong = root / "slurm", []
    with ThreadPoolExecutor() as pool:
        command = pool.submit(ran, results, *KILLED, *JOBS)
        wait_for(lambda: list(results.glob("runs/*/checkpoint.pt")), 600)
        number = asked("squeue", "--noheader", "--format=%F").split()[0]
        asked("scancel", "--signal=KILL", f"{number}_0")
        asked("scancel", f"{number}_2")
        status, output = command.result()
    if status != RESUMABLE or output.count(" has not ended: job ") != 2:
        wrong.append(f"after two jobs were ended, the command ended with {status}: {output[-500:]}")
    status, output = ran(results, *KILLED, *JOBS)
    if status:
        wrong.append(f"the repeated command ended with {status}: {output[-500:]}")
    for name in sorted(path.parent.name for path in results.glob("runs/*/record.json")):
        if (count := logs(results).count(f"{name} is finished: ")) != 1:
            wrong.append(f"{name} was finished {count} times")
    return wrong or differences(root / "whole", results)


if __name__ == "__main__":
    sys.exit(run_command(lambda _: main()))  # a signal ends the cluster too
