"""Where training runs. A launcher runs a module as n ranks and waits for them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.errors import ConfigError, nearest
from pipeline.launching.local import launch_local

Launcher = Callable[[str, Path, int, Path, Callable[[], None]], int]
"""(module, its argument, ranks, log file, called while waiting) → exit status."""

LAUNCHERS: Mapping[str, Launcher] = {"local": launch_local}


def launcher_named(name: str) -> Launcher:
    """A launcher; ConfigError suggests the nearest where there is none of that name."""
    if name not in LAUNCHERS:
        raise ConfigError(f"BERTMILL_LAUNCHER is {name!r}. {nearest(name, LAUNCHERS)}")
    return LAUNCHERS[name]
