"""A run's folder under TMPDIR: it goes when the run ends, or, where the run was killed, when the next one begins.

Each is held by a lock of the kernel's (flock), which falls with its process, however that ends; so one that nobody
holds is a dead run's, and goes, with what its ranks had in it. Process ids would not tell that: containers that share a
folder number theirs alike. Costs one look through the folder's names a run.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "bertmill-run-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder, for as long as the context lasts. What dead runs left is removed first."""
    _remove_those_of_dead_runs()
    unseen = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))  # by others, until it is held
    held = os.open(unseen, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network's disk may know no locks, and then nobody takes them
            fcntl.flock(held, fcntl.LOCK_EX)
        folder = unseen.rename(unseen.with_name(unseen.name.removeprefix(".")))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(held)


def _remove_those_of_dead_runs() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            found = os.open(folder, os.O_RDONLY)
        except OSError:
            continue  # another user's, or gone meanwhile
        try:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # held
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(found)
