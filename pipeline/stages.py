"""The five stages by name: what each takes, and how it is found or run.

The command line and the flows both come here, so that a stage is the same wherever it is started.
"""

from collections.abc import Mapping

from pipeline.config import INPUTS, STAGES, Preset, bound
from pipeline.errors import ConfigError, InputError, UnknownReference
from pipeline.mapping import Map
from pipeline.store import Artifact, Recipe, Store
from pipeline.store.artifact import checked_name


def run_stage(
    stage: str,
    preset: Preset,
    store: Store,
    given: Mapping[str, str] | None = None,
    *,
    map: Map = map,
    force: bool = False,
) -> Artifact:
    """Run one stage. Its inputs are the `given` references, by kind, else what the preset's own earlier stages made."""
    inputs = [find_input(kind, preset, store, given or {}) for kind in INPUTS[stage]]
    if stage == "corpus":
        from pipeline.corpus.ingest import ingest_corpus

        return ingest_corpus(preset.corpus, store=store, map=map, force=force)
    if stage == "vocabulary":
        from pipeline.vocabulary.build import build_vocabulary

        return build_vocabulary(preset.vocabulary, *inputs, store=store, map=map, force=force)
    if stage == "dataset":
        from pipeline.dataset.build import build_dataset

        return build_dataset(preset.dataset, *inputs, store=store, map=map, force=force)
    if stage == "pretraining":
        from pipeline.pretraining.pretrain import pretrain

        return pretrain(preset.pretraining, *inputs, store=store, force=force)
    from pipeline.evaluation.evaluate import evaluate

    return evaluate(preset.evaluation, *inputs, store=store, force=force)


def find_input(kind: str, preset: Preset, store: Store, given: Mapping[str, str]) -> Artifact:
    """The artifact that `given` names or leads to, else the one that the preset's own stage made."""
    if (artifact := _given(kind, store, given)) is not None:
        return artifact
    recipe = recipe_of(kind, preset, store, given)
    found = store.find(recipe)
    if found is None:
        raise UnknownReference(
            f"{recipe.kind}/{recipe.name} has not been made yet as this preset describes it "
            f"(version {recipe.fingerprint[:12]}). `bertmill {kind} PRESET` makes it, `bertmill run PRESET` all "
            f"of them."
        )
    return found


def made_input(kind: str, preset: Preset, store: Store, given: Mapping[str, str]) -> Artifact | None:
    """The same; None where the preset's own isn't made yet, or can't be. One that is given must be there."""
    if (artifact := _given(kind, store, given)) is not None:
        return artifact
    try:
        return find_input(kind, preset, store, given)
    except (ConfigError, InputError, UnknownReference):
        return None


def _given(kind: str, store: Store, given: Mapping[str, str]) -> Artifact | None:
    """A checkpoint that is given brings the dataset it was trained on, and that its corpus."""
    if kind in given:
        artifact = store.resolve(given[kind])
        if artifact.kind != kind:
            raise UnknownReference(f"{given[kind]} is a {artifact.kind}, where a {kind} is wanted.")
        return artifact
    child = {"corpus": "dataset", "dataset": "pretraining"}.get(kind)
    made_from_it = _given(child, store, given) if child else None
    return store.parent(made_from_it, kind) if made_from_it else None


def recipe_of(stage: str, preset: Preset, store: Store, given: Mapping[str, str]) -> Recipe:
    """The recipe of a stage of the preset, its inputs found."""
    if stage == "corpus":
        from pipeline.corpus.ingest import corpus_recipe

        return corpus_recipe(preset.corpus, store)[0]
    inputs = tuple(find_input(kind, preset, store, given) for kind in INPUTS[stage])
    if stage == "vocabulary":
        from pipeline.vocabulary.build import vocabulary_recipe

        return vocabulary_recipe(preset.vocabulary, inputs[0], store)
    if stage == "dataset":
        from pipeline.dataset.build import dataset_recipe

        corpus, vocabulary = inputs
        return dataset_recipe(preset.dataset, corpus, vocabulary, store)
    if stage == "pretraining":
        from pipeline.pretraining.job import pretraining_recipe

        return pretraining_recipe(preset.pretraining, inputs[0], store)
    from pipeline.evaluation.evaluate import SCHEMA

    return Recipe(stage, preset.evaluation, SCHEMA, parents=inputs)


def check_preset(preset: Preset, store: Store) -> None:
    """Raise for what would stop the run later and can be known now.

    Sources, plugs, names, DeepSpeed's keys, the launcher, the store, what training starts from.
    """
    from pipeline.corpus.ingest import corpus_recipe
    from pipeline.dataset.build import check_dataset
    from pipeline.evaluation.tasks import TASKS
    from pipeline.launching import launcher_named
    from pipeline.pretraining.phases import check_positions, phases_of
    from pipeline.pretraining.schedule import schedule_of
    from pipeline.pretraining.systems import systems_config
    from pipeline.pretraining.weights.initial import started_from
    from pipeline.vocabulary.existing import check_vocabulary

    check_dataset(preset.dataset, store)
    for task in preset.evaluation.tasks:
        bound(task, TASKS, "task")
    for stage in STAGES:
        checked_name(getattr(preset, stage).name)
    systems_config(preset.pretraining.deepspeed)
    schedule_of(preset.pretraining)
    launcher_named(store.settings.launcher)
    corpus_recipe(preset.corpus, store)
    check_vocabulary(preset.vocabulary, store)
    store.check_writable()
    config, _ = started_from(preset.pretraining, store)
    lengths = [each.max_seq_length or preset.dataset.max_seq_length for each in phases_of(config)]
    check_positions(config, max(lengths), f"dataset/{preset.dataset.name}")
