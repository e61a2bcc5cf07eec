"""The curve's lines are written whole, or wait."""

import logging
import subprocess
from pathlib import Path

import pytest

from pipeline.pretraining.watching.curve import Curve


@pytest.fixture
def small_disk(tmp_path: Path):
    """A disk of 8 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_lines_follow_those_of_the_steps_before(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 0}\n')
    curve = Curve(path)
    curve.add({"step": 1})
    assert [line["step"] for line in curve.read()] == [0]
    assert curve.write()
    assert [line["step"] for line in curve.read()] == [0, 1]


def test_it_is_read_a_line_at_a_time_for_a_long_trainings_would_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 0}\nthis is read by no one\n')
    lines = Curve(path).read()
    assert next(lines) == {"step": 0}


def test_what_a_killed_run_left_of_a_line_is_not_one_of_the_next(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 0}\n')
    curve = Curve(path)
    with path.open("a") as file:
        file.write('{"st')
    curve.add({"step": 1})
    assert curve.write()
    assert [line["step"] for line in curve.read()] == [0, 1]


def test_on_a_full_disk_lines_wait_and_nothing_is_lost_or_said_twice(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, filler = small_disk / "curve.jsonl", small_disk / "filler"
    path.touch()
    curve = Curve(path)
    curve.add({"step": 0})
    assert curve.write()
    filler.write_bytes(b"x" * 4096)
    with caplog.at_level(logging.WARNING, "bertmill"):
        for step in range(1, 4):
            curve.add({"step": step, "filling": "x" * 3000})
            written = curve.write()
        assert not written
        curve.add({"step": 4})
        assert not curve.write()
    assert len(caplog.records) == 1
    filler.unlink()
    curve._waiting = [line.replace("x" * 3000, "") for line in curve._waiting]  # so that all of it fits the disk
    assert curve.write()
    assert [line["step"] for line in curve.read()] == [0, 1, 2, 3, 4]
