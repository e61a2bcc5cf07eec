"""A user at a shell: a home, and the command run in it as a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.store import Store
from tests.small import store_of

LIBRARY, COMMAND = ("-m", "pipeline"), ("-m", "flows.cli")
OTHERS = ("BERTMILL_", "PREFECT_", "AWS_", "GITHUB_", "FORCE_COLOR", "PY_COLORS")
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class User:
    """A home, and the command in it."""

    home: Path

    def environment(self, **variables: str) -> dict[str, str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith(OTHERS)}
        return own | {"BERTMILL_HOME": str(self.home), "BERTMILL_WORKERS": "1", "COLUMNS": "100"} | variables

    def call(self, *words: object, python: Sequence[str] = LIBRARY, **variables: str) -> Done:
        """Run the command to its end."""
        arguments = [sys.executable, *python, *map(str, words)]
        environment = self.environment(**variables)
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120)

    def answer(self, *words: object, **variables: str) -> list[str]:
        """The lines that a command which succeeds writes to standard output."""
        done = self.call(*words, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    @property
    def store(self) -> Store:
        return store_of(self.home)


def said(done: Done) -> list[str]:
    """The lines on standard error without the log's, which begin with the time."""
    return [line for line in done.stderr.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]


def check_refused(done: Done, sentence: str) -> None:
    """That it says so in one sentence on standard error, and exits with 2."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert len(said(done)) == 1, done.stderr
    assert re.match(f"bertmill: .*{sentence}", said(done)[0]), done.stderr
