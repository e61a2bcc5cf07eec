"""torchrun, deaf to requests to stop: `python -m pipeline.launching.agent`, with torchrun's arguments.

Its own answer to SIGTERM is to send the ranks the same, and SIGKILL 30 s later, whether or not they have a checkpoint
by then. Slurm, systemd and container runtimes may signal every process of a job; the ranks and the launcher know what
to do (pretraining/staying_alive/preemption.py), so torchrun only waits for them. It gets handlers that do nothing, for
ranks would inherit it if the signals were ignored.
"""

import signal
import sys

FORWARDED = "SIGINT,SIGHUP,SIGQUIT"
"""Signals that still end the ranks at once."""


def main(arguments: list[str]) -> None:
    """Run torchrun to its end; ended by a signal, it exits without a trace, which would hide the ranks' own."""
    for each in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(each, lambda *_: None)
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.run import main as torchrun

    try:
        torchrun(["--signals-to-handle", FORWARDED, *arguments])
    except SignalException as ended:
        raise SystemExit(128 + ended.sigval) from None


if __name__ == "__main__":
    main(sys.argv[1:])
