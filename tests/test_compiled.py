"""What compiled code is kept from."""

import subprocess
import sys

SCRIPT = """
import sys
import numpy as np
from numba import njit
from pipeline import compiled
from pipeline.dataset.text.sentences import split_sentences

assert split_sentences("One. Two.") == ["One.", "Two."]
found = {"scipy.linalg", "pandas"} & set(sys.modules)
assert not found, found
product = njit(lambda a, b: np.dot(a, b))(np.ones((2, 3)), np.ones((3, 2)))
assert (product == 3).all()
"""


def test_loading_compiled_code_looks_for_no_blas_and_who_multiplies_matrices_finds_it_yet() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
