"""What a step frees on a CPU stays with the process, for the next step, which takes the same again.

The C library gives large blocks back to the system, and has them again page by page, each page zeroed: a tenth of a
step of BERT-base, a fifth of a small encoder's. The price is that a process that once was large stays so; a GPU's
memory has its own allocator, which does likewise. Only glibc can be asked; elsewhere nothing changes.
"""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h
MOST = 2**31 - 1
GIB, EARLIER = 2**30, 2**25
"""From what size on a block is given back all the same; the other is the most that glibc before 2.35 accepts."""


def keep_freed_memory() -> None:
    """For this process, from now on."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, MOST)
        if not mallopt(MMAP_THRESHOLD, GIB):
            mallopt(MMAP_THRESHOLD, EARLIER)
