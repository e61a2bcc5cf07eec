"""A publish that is killed at whatever moment leaves a sound store, and run again it ends with the same artifact."""

import random
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pipeline.settings import Settings
from pipeline.store import Artifact, Store, open_store
from pipeline.store.s3 import PART_SIZE
from pipeline.store.verify import verify_store
from tests.artifacts import commit, keys, recipe
from tests.racing import FORKS, as_a_child

SEED = 20_261_124
MIB = 1 << 20


def files_of(number: int) -> dict[str, bytes]:
    """Small files of other bytes for each number, and among them one that goes to object storage in parts."""
    source = random.Random(number)
    files = {f"train/{each:05d}.bin": source.randbytes(2_000) for each in range(10)}
    return files | {"train/00005-large.bin": source.randbytes(MIB) * (PART_SIZE // MIB + 1)}


def publish(store: Store, number: int) -> Artifact:
    """As a stage does: what is there already is found."""
    if (found := store.find(recipe(number))) is not None:
        return found
    with store.draft(recipe(number)) as draft:
        (draft.folder / "train").mkdir()
        for path, data in (files := files_of(number)).items():
            (draft.folder / path).write_bytes(data)
        draft.add_all(files)
        return draft.commit(totals={})


def publish_in_a_child(
    settings: Settings, number: int, variables: Mapping[str, str], scratch: Path, told: Connection
) -> None:
    as_a_child(variables)
    tempfile.tempdir = str(scratch)  # a killed process leaves its draft there
    store = open_store(settings)
    told.send("begun")
    publish(store, number)


class Publisher:
    """Publishes in a process of its own, and is killed when it should be."""

    def __init__(self, scratch: Path, variables: Mapping[str, str]) -> None:
        self.scratch = scratch
        self._variables = dict(variables)

    def run(self, store: Store, number: int, killed_after_s: float | None = None) -> tuple[bool, float]:
        """Whether it was killed before it had ended, and how long it took."""
        self.scratch.mkdir()
        ours, told = FORKS.Pipe(duplex=False)
        process = FORKS.Process(
            target=publish_in_a_child, args=(store.settings, number, self._variables, self.scratch, told)
        )
        process.start()
        told.close()
        assert ours.recv() == "begun"
        began = time.monotonic()
        process.join(killed_after_s)
        process.kill()
        process.join()
        took_s = time.monotonic() - began
        shutil.rmtree(self.scratch)
        assert process.exitcode in {0, -signal.SIGKILL}
        return process.exitcode != 0, took_s


@pytest.mark.long(6, 200)
def test_a_publish_killed_at_any_moment_leaves_a_sound_store_and_run_again_it_ends_with_the_same_artifact(
    any_store: Store, s3_server: dict[str, str], tmp_path: Path, rounds: int
) -> None:
    publisher = Publisher(tmp_path / "scratch", s3_server)
    moments, number, kills = random.Random(SEED), 0, 0
    while kills < rounds:  # it may end before its moment comes: then another is begun
        number += 1
        store, undisturbed = (store_of(any_store, each) for each in (number, 0))
        before = commit(store, recipe(0))
        _, usual_s = publisher.run(undisturbed, number)
        killed, _ = publisher.run(store, number, moments.uniform(0, usual_s))
        kills += killed
        assert verify_store(store, deep=True) == []
        visible = [f"{manifest.kind}/{manifest.name}@{manifest.version}" for manifest in store.versions()]
        assert visible[0] == str(before)
        assert str(store.resolve("vocabulary/small@latest")) in visible
        made = publish(store, number)
        assert made.digest == undisturbed.resolve("vocabulary/small@latest").digest
        assert store.resolve("vocabulary/small@latest") == made
        assert len(keys(store, "artifacts/")) == 2
        assert verify_store(store, deep=True) == []
        remove(store)
        remove(undisturbed)


def store_of(any_store: Store, number: int) -> Store:
    """Another store for each number, beside the others."""
    return open_store(any_store.settings.model_copy(update={"store": f"{any_store.url}/{number}"}))


def remove(store: Store) -> None:
    """All of the store, with uploads that were killed half-way, for room."""
    if store.url.startswith("file:"):
        shutil.rmtree(store.url.removeprefix("file://"))
        return
    for each in store.backend.list(""):
        store.backend.delete(each.key)
    for each in store.backend.unfinished():
        store.backend.discard(each)
