"""A stage as a flow: the same bytes as without Prefect, a task for each shard, and its own inputs' sentences."""

import pytest

from flows.corpus import corpus
from flows.parameters import Run
from flows.vocabulary import vocabulary
from pipeline.errors import UnknownReference
from pipeline.settings import Settings
from pipeline.stages import run_stage
from pipeline.store import Artifact, open_store
from tests.flows.conftest import User
from tests.flows.runs import runs_named, tasks_of


def test_a_flow_makes_the_same_bytes_as_the_stage_alone_with_a_task_for_each_shard(here: User, preset: str) -> None:
    run = Run(preset=preset)
    text = corpus(run)
    state = vocabulary(run, corpus=text, return_state=True)
    store = run.store()
    made = store.resolve(state.result())
    assert made.digest == made_without_prefect(run, here).digest
    train, heldout = (len(store.manifest(store.resolve(text)).matching(part)) for part in ("train/", "heldout/"))
    assert train > 1
    tasks = sorted(task.name for task in tasks_of(state.state_details.flow_run_id))
    assert tasks == sorted(f"count-shard-{number}" for shards in (train, heldout) for number in range(shards))


def test_a_second_run_finds_the_artifact_and_maps_nothing(here: User, preset: str) -> None:
    run = Run(preset=preset)
    first = corpus(run)
    again = corpus(run, return_state=True)
    assert again.result() == first
    assert tasks_of(again.state_details.flow_run_id) == []


def test_force_makes_another_beside_the_first(here: User, preset: str) -> None:
    first = corpus(Run(preset=preset))
    assert corpus(Run(preset=preset, force=True)) == f"{first}-2"


def test_a_stage_whose_input_was_never_made_fails_with_what_to_do(here: User, preset: str) -> None:
    state = vocabulary(Run(preset=preset), return_state=True)
    with pytest.raises(UnknownReference, match="corpus/mine has not been made yet .* `bertmill corpus PRESET` makes"):
        state.result()
    (run,) = runs_named(f"vocabulary of {preset}")
    assert run.state_name == "Failed"


def made_without_prefect(run: Run, user: User) -> Artifact:
    """The same preset's vocabulary, in a store of its own."""
    store = open_store(Settings.from_environment({"BERTMILL_HOME": str(user.home / "other")}))
    run_stage("corpus", run.resolved(), store)
    return run_stage("vocabulary", run.resolved(), store)
