"""Lines of progress end nothing: what a disk doesn't take is dropped, and what it cut short is passed over."""

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.pretraining.watching.lines import Lines, NewLines


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """A process may write no larger files: what a full disk gives too, but for its number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "lines").touch()
    return tmp_path / "lines"


def test_lines_are_read_as_they_come_once_each(path: Path) -> None:
    with path.open(encoding="utf-8") as file, Lines(path) as lines:
        new = NewLines(file)
        for step in range(3):
            lines.add({"step": step})
            assert list(new) == [{"step": step}]
        assert list(new) == []


def test_a_line_is_read_when_it_is_whole(path: Path) -> None:
    with path.open(encoding="utf-8") as file, path.open("ab", buffering=0) as written:
        new = NewLines(file)
        written.write(b'{"step": 0}\n{"st')
        assert list(new) == [{"step": 0}]
        written.write(b'ep": 1}\n')
        assert list(new) == [{"step": 1}]


def test_a_run_that_appends_to_what_a_killed_one_left_begins_on_a_line_of_its_own(path: Path) -> None:
    path.write_text('{"step": 0}\n{"st')
    for step in (1, 2):
        with Lines(path) as lines:
            lines.add({"step": step})
    assert path.read_text() == '{"step": 0}\n{"st\n{"step": 1}\n{"step": 2}\n'


def test_on_a_full_disk_lines_are_dropped_and_said_once_and_those_that_follow_are_whole(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with path.open(encoding="utf-8") as file, Lines(path) as lines, caplog.at_level(logging.WARNING, "bertmill"):
        lines.add({"step": 0})
        with files_up_to(20):
            for step in range(1, 4):
                lines.add({"step": step})
        assert path.read_text() == '{"step": 0}\n{"step":', "the first of them was cut short"
        for step in range(4, 6):
            lines.add({"step": step})
        assert list(NewLines(file)) == [{"step": step} for step in (0, 4, 5)]
    assert len(caplog.messages) == 1
    assert "lines of progress are dropped until they can be written" in caplog.text
