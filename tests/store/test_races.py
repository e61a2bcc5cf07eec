"""Of sixteen processes at once one wins and the others learn of it, and nothing is lost: versions, aliases, leases."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from pipeline.errors import StoreError
from pipeline.settings import Settings
from pipeline.store import Artifact, Holder, Store, open_store
from tests.artifacts import commit, keys, recipe
from tests.racing import meet, opened, racers

RACERS = 16
Race = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def race(s3_server: dict[str, str]) -> Iterator[Race]:
    """`race(fn)`: what `fn(racer)` returned in each of the processes."""
    with racers(RACERS, s3_server) as race:
        yield race


def published(settings: Settings, number: int, texts: list[str], racer: int) -> tuple[Artifact | None, str]:
    """(the artifact, or None and the failure's sentence). Every other round they meet once more, at the commit."""
    store = opened(settings)
    meet()
    with store.draft(recipe(number)) as draft:
        (draft.folder / "vocab.txt").write_text(texts[racer])
        draft.add("vocab.txt")
        if number % 2:
            meet()
        try:
            return draft.commit(totals={}), ""
        except StoreError as error:
            return None, str(error)


@pytest.mark.long(3, 50)
def test_of_many_that_publish_the_same_one_commits_and_all_return_its_artifact(
    any_store: Store, race: Race, rounds: int
) -> None:
    for number in range(rounds):
        ended = race(partial(published, any_store.settings, number, [f"mill {number}"] * RACERS))
        found = any_store.find(recipe(number))
        assert found is not None
        assert ended == [(found, "")] * RACERS, "one manifest's sha256, so one nonce"
        assert any_store.file(found, "vocab.txt").read_text() == f"mill {number}"
    assert len(keys(any_store, "artifacts/")) == rounds


@pytest.mark.long(3, 50)
def test_of_many_that_publish_other_bytes_one_commits_and_the_others_are_told(
    any_store: Store, race: Race, rounds: int
) -> None:
    for number in range(rounds):
        texts = [f"mill {number} of {racer}" for racer in range(RACERS)]
        ended = race(partial(published, any_store.settings, number, texts))
        ((winner, made),) = [(racer, made) for racer, (made, _) in enumerate(ended) if made is not None]
        assert any_store.find(recipe(number)) == made
        assert any_store.file(made, "vocab.txt").read_text() == texts[winner]
        for _, sentence in ended[:winner] + ended[winner + 1 :]:
            assert sentence.startswith(f"{made} was committed by another run with other bytes (digest ")
            assert sentence.endswith("Keep that one, or make another with --force.")
    assert len(keys(any_store, "artifacts/")) == rounds


def published_alone(settings: Settings, name: str, racer: int) -> Artifact:
    """Each racer publishes a version of its own."""
    store = opened(settings)
    meet()
    return commit(store, recipe(racer, name))


@pytest.mark.long(3, 50)
def test_of_many_versions_that_are_published_at_once_latest_is_the_one_created_last(
    any_store: Store, race: Race, rounds: int
) -> None:
    for number in range(rounds):
        made = race(partial(published_alone, any_store.settings, f"round-{number}"))
        last = max(made, key=lambda artifact: any_store.manifest(artifact).created_at)
        assert any_store.resolve(f"vocabulary/round-{number}@latest") == last


def tagged(settings: Settings, alias: str, artifacts: list[Artifact], racer: int) -> None:
    store = opened(settings)
    meet()
    store.aliases.tag(artifacts[racer], alias, f"by racer {racer}")


@pytest.mark.long(3, 50)
def test_of_many_that_tag_one_alias_all_stand_in_its_log_and_the_last_one_counts(
    any_store: Store, race: Race, rounds: int
) -> None:
    artifacts = [commit(any_store, recipe(number)) for number in range(RACERS)]
    for number in range(rounds):
        race(partial(tagged, any_store.settings, f"trial-{number}", artifacts))
        log = f"aliases/vocabulary/small/trial-{number}/"
        assert keys(any_store, log) == [f"{log}{each:010d}.json" for each in range(1, RACERS + 1)]
        history = any_store.aliases.history("vocabulary", "small", f"trial-{number}")
        told = {(move.version, move.reason) for move in history}
        assert told == {(made.version, f"by racer {racer}") for racer, made in enumerate(artifacts)}
        assert any_store.resolve(f"vocabulary/small@trial-{number}").version == history[-1].version


def owned(settings: Settings, number: int, racer: int) -> tuple[str, int]:
    """("owned" or "waited for", which epoch). The owner holds on until all others have waited for it twice."""
    seen: list[Holder] = []

    def wait(holder: Holder) -> None:
        seen.append(holder)
        if len(seen) == 2:
            meet()
            raise InterruptedError

    store = opened(settings)
    meet()
    try:
        with store.lease(recipe(number), wait) as lease:
            meet()
            lease.check()
            return "owned", lease.epoch
    except InterruptedError:
        return "waited for", seen[-1].epoch


@pytest.mark.long(3, 50)
def test_of_many_that_race_for_an_expired_lease_one_owns_the_next_epoch_and_the_others_wait(
    any_store: Store, race: Race, rounds: int
) -> None:
    store = open_store(any_store.settings.model_copy(update={"lease_s": 3}))
    for number in range(rounds):
        key = f"work/vocabulary/{recipe(number).fingerprint}/{10 + number:010d}/lease.json"
        store.backend.put(key, b"of a run that nothing is heard of any more")
    time.sleep(4.1)
    for number in range(rounds):
        ended = race(partial(owned, store.settings, number))
        assert sorted(ended) == [("owned", 11 + number)] + [("waited for", 11 + number)] * (RACERS - 1)
