"""Tables that take longer to make than to read: kept in a file beside the compiled code, where one can be written.

A file's name tells what its table was made from, the source code included, so that no old one is taken. It is made
anew where the file is gone or damaged, and in every process where the package's folder may not be written.
"""

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]
FOLDER = Path(__file__).with_name("__pycache__")


def kept(name: str, make: Callable[[], Arrays], modules: Sequence[str], *given: object) -> Arrays:
    """What `make` gives, or gave before: of code that stands in `modules`, from what is `given`."""
    sources = b"".join(Path(str(sys.modules[module].__file__)).read_bytes() for module in modules)
    digest = hashlib.sha256(sources + repr((sys.version, np.__version__, given)).encode()).hexdigest()
    path = FOLDER / f"{name}-{digest[:16]}.npz"
    with suppress(OSError, ValueError, EOFError, KeyError, BadZipFile), path.open("rb") as file:
        found = np.load(file, allow_pickle=False)
        return {key: found[key] for key in found.files}
    made = {key: np.array(value) for key, value in make().items()}  # to compiled code of the same type as what is read
    with suppress(OSError):
        _write(path, made)
    return made


def _write(path: Path, arrays: Arrays) -> None:
    """Whole or not at all, as other processes may read it meanwhile."""
    path.parent.mkdir(exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # no name is one of its options
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
