"""Ranks as processes of this machine, under torchrun, on the loopback interface."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 10.0


def launch_local(module: str, argument: Path, ranks: int, log: Path, poll: Callable[[], None]) -> int:
    """Run `python -m module argument` as `ranks` ranks; returns torchrun's exit status.

    Their output is added to `log`. `poll` is called about five times a second while they run. Whatever ends this call,
    and whatever ends this process, ends the ranks (tether.py).
    """
    command = [
        *(sys.executable, "-m", "pipeline.launching.agent", "--standalone", "--local-addr", "127.0.0.1"),
        *("--max-restarts", "0", "--nproc-per-node", str(ranks), "-m", module, str(argument)),
    ]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=_environment(ranks)
        )
        try:
            while True:
                try:
                    return process.wait(0.2)
                except subprocess.TimeoutExpired:
                    poll()
        finally:
            _end(process)


def _environment(ranks: int) -> dict[str, str]:
    threads = str(max(1, (os.cpu_count() or 1) // ranks))
    defaults = {
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",  # on a machine in use, those that spin for another keep it from running
        "TORCHINDUCTOR_COMPILE_THREADS": threads,  # of each rank; torch's own are as many as all cores
    }
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if Path("/sys/class/net/lo").exists() else {}
    return defaults | os.environ | loopback | {"TORCH_CPP_LOG_LEVEL": "ERROR"}


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Close the ranks' tether, which ends them, and torchrun with them."""
    assert process.stdin is not None, "it was opened as a pipe"
    process.stdin.close()
    if process.poll() is None:
        process.send_signal(signal.SIGINT)  # where a rank is not at the tether yet
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def local_ranks() -> int:
    """One rank a GPU that torch sees (CUDA_VISIBLE_DEVICES); without GPUs two, or one on a single core."""
    if shutil.which("nvidia-smi"):  # or there is none, and torch, which takes a second to load, needn't be asked
        import torch

        if gpus := torch.cuda.device_count():
            return gpus
    return min(2, os.cpu_count() or 1)
