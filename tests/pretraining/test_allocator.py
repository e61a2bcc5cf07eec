"""Freed memory stays with a training's process."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, torch
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: a huge page is one fault
from pipeline.pretraining.allocator import keep_freed_memory
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def filled():
    before = faults()
    blocks = [torch.ones(size << 18) for size in (200, 40, 3)]  # MiB
    return faults() - before
filled()
usual = filled()
keep_freed_memory()
print(usual, min(filled() for _ in range(9)))  # the heap takes some turns to settle
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library can't be asked")
def test_memory_that_was_freed_is_taken_again_without_a_fault() -> None:
    out = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=120).stdout
    usual, kept = map(int, out.split())
    assert kept < usual / 100
