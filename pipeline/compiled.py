"""What compiled code is built with beyond numba's own: code that only reads arrays, and numbers out of bytes.

And what numba is kept from when it starts.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np import linalg
from numba.np.arrayobj import make_array

Function = TypeVar("Function", bound=Callable[..., Any])


def reading(function: Function) -> Function:
    """Compile a function that reads arrays and gives numbers, to be called from other compiled code.

    References to its arguments aren't counted: done for each array of each call, that takes longer than a look at a few
    characters does (a whole scan for sentences took twice as long). So it may make no array, nor give one back.
    """
    compiled: Function = njit(cache=True, nogil=True, _nrt=False)(function)
    return compiled


@intrinsic  # type: ignore[untyped-decorator]
def eight_bytes(_: Any, array: Any, at: Any) -> Any:  # noqa: ARG001 (numba gives its type)
    """`eight_bytes(text, at)`: those of an array of bytes from a place on, as a number, in the machine's order.

    To put it together byte by byte takes five times as long. Nothing is checked: all eight must be there.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        return builder.load(pointer, align=1)

    return types.uint64(array, types.intp), code


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
