"""Ranks end with their launcher, however it ends.

A rank's standard input is a pipe from the launcher, handed down through torchrun. Nothing is ever written to it: when
the launcher dies, even by SIGKILL, the kernel closes the other end, reading gives an end of file, and the rank exits.
"""

import os
import threading

GONE = 143
"""Exit status of a rank whose launcher has gone."""


def exit_with_launcher() -> None:
    """Watch standard input from a thread; call before anything that takes time."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(GONE)

    threading.Thread(target=watch, name="exit-with-launcher", daemon=True).start()
