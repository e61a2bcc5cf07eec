"""The stages by name: where their inputs come from, what they will commit, and what is refused before any work."""

from pathlib import Path

import pytest

from pipeline.config import STAGES, Preset
from pipeline.errors import BertmillError, ConfigError, InputError, StoreError, UnknownReference
from pipeline.preset import load_preset
from pipeline.stages import check_preset, find_input, recipe_of, run_stage
from pipeline.store import Artifact, Store
from tests.artifacts import keys
from tests.maps import forbidden
from tests.small import store_of
from tests.texts import lines, rows, write

DATA_STAGES = STAGES[:3]
SMALL = ("corpus.heldout_share=0.3", "vocabulary.size=60", "dataset.max_seq_length=32")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "mine.jsonl", lines(rows(30)))


def preset_of(source: Path, *overrides: str, name: str = "mine") -> Preset:
    """A preset whose data stages take no time."""
    sources = f'corpus.sources=[{{path="{source}", format="jsonl", name="mine", licence="own"}}]'
    return load_preset("tiny", [*SMALL, sources, *overrides], name)


def committed(stage: str, preset: Preset, store: Store) -> Artifact:
    """An artifact of the stage's recipe, committed without the stage's work."""
    with store.draft(recipe_of(stage, preset, store, {})) as draft:
        (draft.folder / "nothing").touch()
        draft.add("nothing")
        return draft.commit(totals={})


@pytest.fixture
def data(source: Path, store: Store) -> dict[str, Artifact]:
    """What the stages before training make of the preset, by kind."""
    return {stage: run_stage(stage, preset_of(source), store) for stage in DATA_STAGES}


def test_a_recipe_tells_the_fingerprint_that_the_stage_then_commits(source: Path, store: Store) -> None:
    preset = preset_of(source)
    for stage in DATA_STAGES:
        recipe = recipe_of(stage, preset, store, {})
        assert store.find(recipe) is None
        made = run_stage(stage, preset, store)
        assert store.manifest(made).fingerprint == recipe.fingerprint
        assert store.find(recipe) == made


def test_every_stage_finds_what_was_committed_under_its_recipe(
    source: Path, store: Store, data: dict[str, Artifact]
) -> None:
    preset = preset_of(source)
    made = data | {stage: committed(stage, preset, store) for stage in STAGES[3:]}
    assert {stage: run_stage(stage, preset, store, map=forbidden) for stage in STAGES} == made


def test_a_forced_stage_is_made_again_beside_what_is_found(source: Path, store: Store) -> None:
    first = run_stage("corpus", preset_of(source), store)
    again = run_stage("corpus", preset_of(source), store, force=True)
    assert again.version == f"{first.version}-2"
    assert again.digest == first.digest


def test_a_stages_recipe_changes_with_its_own_table_and_its_inputs_and_with_no_later_table(
    source: Path, store: Store, data: dict[str, Artifact]
) -> None:
    def fingerprint(*overrides: str) -> str:
        return recipe_of("vocabulary", preset_of(source, *overrides), store, {}).fingerprint

    own = fingerprint()
    assert fingerprint("vocabulary.size=61") != own
    assert fingerprint("dataset.max_seq_length=48", "pretraining.max_steps=7", "evaluation.epochs=9") == own
    run_stage("corpus", preset_of(source, "corpus.documents_per_shard=5"), store)
    assert fingerprint("corpus.documents_per_shard=5") != own


def test_an_input_that_is_given_is_preferred_to_the_presets_own(source: Path, store: Store) -> None:
    own = run_stage("corpus", preset_of(source), store)
    other = run_stage("corpus", preset_of(source, "corpus.documents_per_shard=5", name="other"), store)
    assert find_input("corpus", preset_of(source), store, {}) == own
    for reference in (other.reference, "corpus/other", "corpus/other@latest"):
        assert find_input("corpus", preset_of(source), store, {"corpus": reference}) == other


def test_an_input_of_the_presets_own_is_what_the_preset_describes_now_not_the_latest(
    source: Path, store: Store
) -> None:
    first = run_stage("corpus", preset_of(source), store)
    run_stage("corpus", preset_of(source, "corpus.documents_per_shard=5"), store)
    assert find_input("corpus", preset_of(source), store, {}) == first
    with pytest.raises(UnknownReference, match="corpus/mine has not been made yet as this preset describes it"):
        find_input("corpus", preset_of(source, "corpus.documents_per_shard=6"), store, {})


def test_a_checkpoint_that_is_given_brings_what_it_was_trained_on_unless_that_is_given_too(
    source: Path, store: Store, data: dict[str, Artifact]
) -> None:
    checkpoint = committed("pretraining", preset_of(source), store).reference
    changed = preset_of(source, "corpus.documents_per_shard=5", "dataset.max_seq_length=48", name="other")
    others = {stage: run_stage(stage, changed, store) for stage in DATA_STAGES}
    for kind in ("dataset", "corpus"):
        assert find_input(kind, changed, store, {}) == others[kind]
        assert find_input(kind, changed, store, {"pretraining": checkpoint}) == data[kind]
        given = {"pretraining": checkpoint, "dataset": others["dataset"].reference}
        assert find_input(kind, changed, store, given) == others[kind]


@pytest.mark.parametrize("kind", [kind for kind in DATA_STAGES if kind != "vocabulary"])
def test_a_given_reference_of_another_kind_is_refused(
    kind: str, source: Path, store: Store, data: dict[str, Artifact]
) -> None:
    with pytest.raises(UnknownReference, match=f"vocabulary/mine is a vocabulary, where a {kind} is wanted"):
        find_input(kind, preset_of(source), store, {kind: "vocabulary/mine"})


@pytest.mark.parametrize(
    ("made", "stage", "missing"),
    [
        (0, "vocabulary", "corpus"),
        (0, "evaluation", "corpus"),
        (1, "dataset", "vocabulary"),
        (2, "pretraining", "dataset"),
    ],
)
def test_a_missing_input_is_told_with_the_command_that_makes_it(
    made: int, stage: str, missing: str, source: Path, store: Store
) -> None:
    preset = preset_of(source)
    for earlier in DATA_STAGES[:made]:
        run_stage(earlier, preset, store)
    version = recipe_of(missing, preset, store, {}).fingerprint[:12]
    with pytest.raises(UnknownReference) as error:
        run_stage(stage, preset, store)
    assert str(error.value) == (
        f"{missing}/mine has not been made yet as this preset describes it (version {version}). "
        f"`bertmill {missing} PRESET` makes it, `bertmill run PRESET` all of them."
    )


def test_a_sound_preset_passes_the_check_which_leaves_nothing_in_the_store(source: Path, store: Store) -> None:
    check_preset(preset_of(source), store)
    assert list(store.backend.list("")) == []


@pytest.mark.parametrize(
    ("override", "kind", "sentence"),
    [
        ("dataset.masker={name='whole_wrd'}", ConfigError, "There is no masker 'whole_wrd'. Did you mean 'whole_word'"),
        ("dataset.masker={name='token', share=1}", ConfigError, "masker 'token' has no keyword 'share'"),
        ("evaluation.tasks=[{name='metdata'}]", ConfigError, "There is no task 'metdata'. Did you mean 'metadata'"),
        ("evaluation.tasks=[{name='metadata'}]", ConfigError, "The task 'metadata' needs the keyword 'label'"),
        ("pretraining.schedule={name='linaer'}", ConfigError, "There is no schedule 'linaer'. Did you mean 'linear'"),
        ("pretraining.deepspeed=zero9", ConfigError, "pretraining.deepspeed is 'zero9': no config of that name"),
        (
            "pretraining.deepspeed={folder}/ours.json",
            ConfigError,
            "sets 'fp16', which the preset owns. Remove it there",
        ),
        ("corpus.sources=[]", InputError, "has no sources. Add one"),
        ("corpus.sources=[{path='{folder}/x', format='text', name='x', licence='x'}]", InputError, "There is no file"),
        (
            "corpus.sources=[{path='{folder}/x', format='jsnl', name='x', licence='x'}]",
            ConfigError,
            "source format 'jsnl'",
        ),
    ],
)
def test_what_would_stop_the_run_later_is_told_before_any_work(
    override: str, kind: type[BertmillError], sentence: str, source: Path, store: Store
) -> None:
    write(source.parent / "ours.json", '{"fp16": {"enabled": true}}')
    preset = preset_of(source, override.replace("{folder}", str(source.parent)))
    with pytest.raises(kind, match=sentence):
        check_preset(preset, store)
    assert keys(store) == []


def test_a_name_that_can_not_stand_in_the_store_is_told_before_any_work(source: Path, store: Store) -> None:
    preset = preset_of(source)
    named = preset.evaluation.model_copy(update={"name": "My scores"})
    with pytest.raises(ConfigError, match="The artifact name 'My scores' must be 1 to 63 of a-z"):
        check_preset(preset.model_copy(update={"evaluation": named}), store)


def test_an_unknown_launcher_is_told_before_any_work(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="BERTMILL_LAUNCHER is 'lokal'. Did you mean 'local'"):
        check_preset(preset_of(source), store_of(tmp_path / "home", BERTMILL_LAUNCHER="lokal"))


def test_a_store_that_can_not_be_written_is_told_before_any_work(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="set BERTMILL_STORE to a place that can be written"):
        check_preset(preset_of(source), store_of(tmp_path / "home", BERTMILL_STORE=f"file://{source}/store"))
