"""A Slurm of one node: Debian's packages slurmctld, slurmd, munge and slurm-client."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel")
CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 Port={node} CPUs=4 RealMemory=16000
PartitionName=all Nodes=ALL Default=YES
"""


def is_installed() -> bool:
    return all(shutil.which(name) for name in PROGRAMS)


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """Start it, its files in ``folder``; the variable by which ``sbatch`` and others find it."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    config = CONFIG.format(
        host=socket.gethostname().split(".")[0],
        folder=folder,
        user=getpass.getuser(),
        controller=free_port(),
        node=free_port(),
    )
    (folder / "slurm.conf").write_text(config)
    where = {"SLURM_CONF": str(folder / "slurm.conf")}
    env = os.environ | where
    files = [f"--{name}={folder}/munge.{name}" for name in ("socket", "seed-file", "pid-file")]
    files += [f"--key-file={key}", f"--log-file={folder}/munge.log"]
    with ExitStack() as stack:
        # Forced, because a folder of tests is readable by others.
        for command in (
            ["munged", "--foreground", "--force", *files],
            ["slurmctld", "-D", "-i"],
            ["slurmd", "-D"],
        ):
            log = stack.enter_context((folder / f"{command[0]}.txt").open("w"))
            daemon = subprocess.Popen(command, env=env, stdout=log, stderr=log)
            stack.callback(daemon.wait, 30)
            stack.callback(daemon.terminate)
            if command[0] == "munged":
                wait_for(folder / "munge.socket")
        kill = ["scancel", "--full", "--signal=KILL", f"--user={getpass.getuser()}"]
        stack.callback(subprocess.run, kill, env=env)  # jobs would outlive the daemons
        yield where


def wait_for(file: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < deadline, file
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
