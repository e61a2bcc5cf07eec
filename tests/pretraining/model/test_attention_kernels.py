"""The kernels of a GPU where there is none: interpreted on a CPU for what they compute, compiled for what they need."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="there is a triton for Linux alone")
CLOSE = {"torch.float32": 2e-6, "torch.float16": 4e-3}
SHARED_MEMORY = {80: 163 * 1024, 86: 99 * 1024, 90: 227 * 1024}
"""Bytes that a program may have, by compute capability: A100; A10, L4 and GeForce; H100. CUDA C++ Programming Guide."""
CASES = [(64, 86), (64, 90), (128, 80)]


def printed(module: str, *arguments: str, **environment: str) -> list[str]:
    command = [sys.executable, "-m", f"tests.pretraining.model.{module}", *arguments]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_they_compute_what_a_cpu_does() -> None:
    lines = [json.loads(line) for line in printed("interpreted", TRITON_INTERPRET="1")]
    assert {(size, lengths) for size, lengths, *_ in lines} == {
        (n, of) for n in (16, 32, 64, 128) for of in ("short", "long")
    }
    for *case, dtype, errors in lines:
        assert len(errors) == (2 if "short" in case else 1)
        for error in errors:
            assert max(error) < CLOSE[dtype], (case, dtype)


def test_a_card_has_the_memory_for_them(tmp_path: Path) -> None:
    cases = [f"{size},{capability}" for size, capability in CASES]
    lines = printed("cards", *cases, TRITON_CACHE_DIR=str(tmp_path))
    for (size, capability), line in zip(CASES, lines, strict=True):
        for kernel, shapes in json.loads(line).items():
            assert min(shapes) <= SHARED_MEMORY[capability], f"{kernel} of {size} on {capability}: {shapes}"
