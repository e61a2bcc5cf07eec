"""Where training runs. A launcher runs a module as n ranks and waits for them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.launching.local import launch_local

Launcher = Callable[[str, Path, int, Path, Callable[[], None]], int]
"""(module, its argument, ranks, log file, called while waiting) → exit status."""

LAUNCHERS: Mapping[str, Launcher] = {"local": launch_local}
