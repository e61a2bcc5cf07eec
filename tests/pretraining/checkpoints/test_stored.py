"""Fragments that any world has written are read in slices by any other."""

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import CorruptArtifact
from pipeline.pretraining.checkpoints.fragments import KINDS, WEIGHT, Fragment
from pipeline.pretraining.checkpoints.stored import StoredFragments, file_name, write_fragments

SHAPES = {"embeddings": (7, 5), "layers.0.bias": (1,), "head@odd": (11,)}
NUMBERS = {
    kind: {name: torch.arange(math.prod(shape)) + 1000.0 * place + len(name) for name, shape in SHAPES.items()}
    for place, kind in enumerate(KINDS)
}


def written(folder: Path, ranks: Iterable[list[Fragment]]) -> int:
    """Files of those ranks; how many there are."""
    world = 0
    for rank, fragments in enumerate(ranks):
        world += 1
        for kind in KINDS:
            parts = [NUMBERS[kind][each.name][each.start : each.start + each.count] for each in fragments]
            write_fragments(folder / file_name(kind, rank), fragments, torch.cat([torch.empty(0), *parts]))
    return world


def read_from(folder: Path, world: int, asked: list[Any] | None = None) -> StoredFragments:
    def path(kind: str, rank: int) -> Path:
        if asked is not None:
            asked.append((kind, rank))
        return folder / file_name(kind, rank)

    return StoredFragments(path, world, SHAPES)


@st.composite
def dealt(draw: Any) -> list[list[Fragment]]:
    """Every parameter, cut anywhere, its pieces dealt to any ranks; some ranks may have none."""
    ranks: list[list[Fragment]] = [[] for _ in range(draw(st.integers(1, 4)))]
    for name, shape in SHAPES.items():
        count = math.prod(shape)
        cuts = sorted({0, count, *draw(st.lists(st.integers(0, count), max_size=4))})
        for start, end in itertools.pairwise(cuts):
            ranks[draw(st.integers(0, len(ranks) - 1))].append(Fragment(name, start, end - start))
    return ranks


@settings(max_examples=40, deadline=None)
@given(data=st.data(), ranks=dealt())
def test_any_slice_is_read_from_any_cut(data: Any, ranks: list[list[Fragment]], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("files")
    stored = read_from(folder, written(folder, ranks))
    name = data.draw(st.sampled_from(sorted(SHAPES)))
    count = math.prod(SHAPES[name])
    start = data.draw(st.integers(0, count - 1))
    wanted = Fragment(name, start, data.draw(st.integers(1, count - start)))
    for kind in KINDS:
        assert torch.equal(stored.read(kind, wanted), NUMBERS[kind][name][start : start + wanted.count])
    whole = dict(stored.weights())
    assert {name: tuple(each.shape) for name, each in whole.items()} == SHAPES
    assert all(torch.equal(each.view(-1), NUMBERS[WEIGHT][name]) for name, each in whole.items())


HALVES = [
    [Fragment("embeddings", 0, 20), Fragment("layers.0.bias", 0, 1)],
    [Fragment("embeddings", 20, 15), Fragment("head@odd", 0, 11)],
]


def test_a_rank_opens_no_file_of_moments_but_those_that_hold_its_slices(tmp_path: Path) -> None:
    asked = list[Any]()
    stored = read_from(tmp_path, written(tmp_path, HALVES), asked)
    stored.read("exp_avg", Fragment("embeddings", 22, 3))
    assert asked == [(WEIGHT, 0), (WEIGHT, 1), ("exp_avg", 1)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda ranks: ranks[1].pop(), "head@odd"),
        (lambda ranks: ranks[0].append(Fragment("embeddings", 19, 1)), "embeddings"),
        (lambda ranks: ranks[1].__setitem__(0, Fragment("embeddings", 21, 14)), "embeddings"),
        (lambda ranks: ranks.pop(), "embeddings"),
    ],
    ids=["missing", "twice", "gap", "rank gone"],
)
def test_files_that_do_not_hold_every_number_once_are_refused(change: Any, named: str, tmp_path: Path) -> None:
    ranks = [list(each) for each in HALVES]
    change(ranks)
    with pytest.raises(CorruptArtifact, match="The checkpoint's files don't hold every number of "):
        read_from(tmp_path, written(tmp_path, ranks))


def test_a_file_that_is_no_safetensors_is_corrupt(tmp_path: Path) -> None:
    world = written(tmp_path, HALVES)
    (tmp_path / file_name(WEIGHT, 1)).write_bytes(b"\x80\x04pickle")
    with pytest.raises(CorruptArtifact, match=r"rank-00001.weight.safetensors of the checkpoint can't be read"):
        read_from(tmp_path, world)
