"""Tables kept in a file: equal to those that are made, and made anew where anything that they come from is another."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pipeline import tables
from pipeline.dataset.text import marks
from pipeline.vocabulary import code_points

MODULES = (__name__,)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tables, "FOLDER", tmp_path / "cache")
    return tmp_path / "cache"


class Making:
    """Makes a table, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> tables.Arrays:
        self.times += 1
        return {"squares": np.arange(9) ** 2, "letters": np.frombuffer(b"ab", np.uint8)}


def test_a_table_is_made_once_and_read_as_it_was_made() -> None:
    make = Making()
    found = [tables.kept("squares", make, MODULES, "given") for _ in range(3)]
    assert make.times == 1
    for each in found:
        assert {name: (array.dtype, array.tolist()) for name, array in each.items()} == {
            name: (array.dtype, array.tolist()) for name, array in Making()().items()
        }


def test_another_name_version_or_source_makes_another_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make, source = Making(), tmp_path / "source.py"
    source.write_text("1")
    monkeypatch.setitem(sys.modules, "theirs", _module(source))
    for name, given in (("squares", "15.0"), ("squares", "15.1"), ("others", "15.1")):
        tables.kept(name, make, ["theirs"], given)
    assert make.times == 3
    source.write_text("2")
    tables.kept("squares", make, ["theirs"], "15.0")
    assert make.times == 4


def _module(path: Path) -> ModuleType:
    module = ModuleType("theirs")
    module.__file__ = str(path)
    return module


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(b"no table"),
        lambda path: path.unlink(),
    ],
)
def test_a_damaged_file_is_made_anew(folder: Path, damage: Callable[[Path], object]) -> None:
    make = Making()
    tables.kept("squares", make, MODULES)
    (path,) = folder.iterdir()
    damage(path)
    assert [tables.kept("squares", make, MODULES)["squares"][8] for _ in range(2)] == [64, 64]
    assert make.times == 2


def test_where_nothing_can_be_written_the_table_is_made_each_time(folder: Path) -> None:
    folder.write_text("a file where the folder would be")
    make = Making()
    assert [tables.kept("squares", make, MODULES)["squares"][8] for _ in range(2)] == [64, 64]
    assert make.times == 2


def test_the_tables_of_characters_are_the_same_from_their_files() -> None:
    made, kept = (code_points.code_points.__wrapped__(True, None) for _ in range(2))
    for name in ("kinds", "text", "starts"):
        assert np.array_equal(getattr(made, name), getattr(kept, name))
    made, kept = (marks.tables.__wrapped__() for _ in range(2))
    assert np.array_equal(made.kinds, kept.kinds)
