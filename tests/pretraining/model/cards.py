"""Compiles the attention kernels for cards that needn't be there, and prints the shared memory of each, as JSON.

Takes head sizes and compute capabilities, as `64,90`.
"""

import json
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pipeline.pretraining.model import attention_kernels as kernels

POINTERS = {"ends": "*i32", "sums": "*fp32", "deltas": "*fp32"}
SHAPES = {
    "_forward": (kernels.FORWARD,),
    "_backward": kernels.SHORT_BACKWARD,
    "_backward_queries": (kernels.BACKWARD_QUERIES,),
    "_backward_keys": (kernels.BACKWARD_KEYS,),
}


def shared_memory(name: str, shape: kernels.Shape, size: int, capability: int) -> int:
    """Bytes that a program of that kernel takes of its multiprocessor."""
    kernel = getattr(kernels, name)
    constants = {
        "scale": size**-0.5, "heads": 768 // size, "size": size, "block": shape.block, "inner": shape.inner,
        "has_sums": True,
    }  # fmt: skip
    types = {
        each: "constexpr" if each in constants else "i32" if each == "tokens" else POINTERS.get(each, "*bf16")
        for each in kernel.arg_names
    }
    at = {each: (place,) for place, each in enumerate(kernel.arg_names)}
    source = ASTSource(
        kernel,
        types,
        constexprs={at[each]: value for each, value in constants.items() if each in at},
        attrs={at[each]: [["tt.divisibility", 16]] for each, of in types.items() if of.startswith("*")},
    )
    options = {"num_warps": shape.num_warps, "num_stages": shape.num_stages}
    return int(triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).metadata.shared)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        of = tuple(map(int, argument.split(",")))
        found = {name: [shared_memory(name, shape, *of) for shape in shapes] for name, shapes in SHAPES.items()}
        sys.stdout.write(f"{json.dumps(found)}\n")
