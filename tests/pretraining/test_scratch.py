"""A run's scratch ends with it, or with the next run."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.pretraining.scratch import scratch_folder

RUN = """
import time
from pipeline.pretraining.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "storing").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    time.sleep(100)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def other() -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Another run, and its scratch."""
    with subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_it_goes_with_its_run(tmp_path: Path) -> None:
    with scratch_folder() as folder:
        (folder / "within").mkdir()
        assert list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())


def test_that_of_a_killed_run_goes_when_the_next_begins_and_that_of_a_living_one_stays(
    other: tuple["subprocess.Popen[str]", Path], tmp_path: Path
) -> None:
    process, left = other
    with scratch_folder() as own:
        assert (left / "storing").exists()
        assert sorted(tmp_path.iterdir()) == sorted([left, own])
    process.kill()
    process.wait()
    assert (left / "storing").exists()
    with scratch_folder() as own:
        assert list(tmp_path.iterdir()) == [own]


def test_what_isnt_a_runs_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bertmill-notes").mkdir()
    with scratch_folder():
        assert (tmp_path / "bertmill-notes").exists()
