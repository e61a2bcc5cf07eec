"""How code is compiled that only reads arrays, and what numba is kept from when it starts."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit
from numba.np import linalg

Function = TypeVar("Function", bound=Callable[..., Any])


def reading(function: Function) -> Function:
    """Compile a function that reads arrays and gives numbers, to be called from other compiled code.

    References to its arguments aren't counted: done for each array of each call, that takes longer than a look at a few
    characters does (a whole scan for sentences took twice as long). So it may make no array, nor give one back.
    """
    compiled: Function = njit(cache=True, nogil=True, _nrt=False)(function)
    return compiled


def _without_blas() -> None:
    """Answer numba that there is no BLAS, once: when it first loads code it imports scipy to look for one.

    That takes a seventh of a second of every process. The answer decides how `np.correlate` is compiled, for which
    nothing here asks; what multiplies matrices looks again by itself.
    """
    look = linalg.ensure_blas

    def no() -> None:
        linalg.ensure_blas = look
        raise ImportError("not looked for")

    linalg.ensure_blas = no


_without_blas()
