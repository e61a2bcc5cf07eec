"""How code is compiled that only reads arrays."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def reading(function: Function) -> Function:
    """Compile a function that reads arrays and gives numbers, to be called from other compiled code.

    References to its arguments aren't counted: done for each array of each call, that takes longer than a look at a few
    characters does (a whole scan for sentences took twice as long). So it may make no array, nor give one back.
    """
    compiled: Function = njit(cache=True, nogil=True, _nrt=False)(function)
    return compiled
