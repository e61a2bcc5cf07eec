"""The artifact of a training, and those of its snapshots: a Hugging Face folder, the curve, and what they amount to.

A snapshot is a version of its own, `<version>:step=20000`, made of a checkpoint's fp32 weights while training goes on;
it has the same parents, so that it is evaluated, loaded and exported like the whole. One that is there stays as it is.
"""

import tempfile
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import PretrainingConfig
from pipeline.pretraining.watching.curve import CURVE, read_curve
from pipeline.pretraining.weights.export import save_pretrained
from pipeline.pretraining.weights.initial import initial_record
from pipeline.store import Artifact, Draft, Recipe, Store
from pipeline.vocabulary.tokenizer import TOKENIZER_FILES

if TYPE_CHECKING:
    from torch import Tensor

LAST_STEPS = 100


def publish(
    draft: Draft,
    curve: Iterable[dict[str, Any]],
    parameters: int,
    initial: Artifact | None,
    *,
    store: Store,
    producer: Mapping[str, Any],
) -> Artifact:
    """Commit a draft that has the model's files and the curve; its tokenizer comes from the dataset's vocabulary.

    `curve` has its steps, one at a time; `initial` is what training started from, where it wasn't the seed.
    """
    dataset, *_ = draft.recipe.parents
    vocabulary = store.parent(dataset, "vocabulary")
    for name in TOKENIZER_FILES:
        draft.include(store.manifest(vocabulary).file(name), f"model/{name}")
    steps = tokens = 0
    last = deque[dict[str, Any]](maxlen=LAST_STEPS)
    for line in curve:
        steps, tokens = steps + 1, tokens + line["tokens"]
        last.append(line)
    totals: dict[str, Any] = {"steps": steps, "tokens": tokens, "parameters": parameters}
    if initial is not None:
        totals["init"] = initial_record(initial, vocabulary, store)
    if store.manifest(dataset).config.get("pairs") == "none":
        totals["untrained"] = ["next-sentence"]
    return draft.commit(totals=totals, metrics=_means(last), producer=dict(producer))


def publish_snapshot(
    recipe: Recipe,
    step: int,
    weights: "dict[str, Tensor]",
    curve: Path,
    *,
    initial: Artifact | None,
    scratch: Path,
    store: Store,
    producer: Mapping[str, Any],
) -> Artifact:
    """Make an artifact of whole weights after `step` steps, unless it is there."""
    of_step = replace(recipe, step=step)
    if (found := store.find(of_step)) is not None:
        return found
    assert isinstance(recipe.config, PretrainingConfig), "of no other stage are there snapshots"
    dataset, *_ = recipe.parents
    vocabulary_size = store.manifest(dataset).totals["vocabulary_size"]
    with store.draft(of_step) as draft, tempfile.TemporaryDirectory(prefix="snapshot-", dir=scratch) as folder:
        model = Path(folder)
        save_pretrained(weights, recipe.config, vocabulary_size, model)
        for path in sorted(model.iterdir()):
            draft.add(f"model/{path.name}", path)
        draft.add(CURVE, curve)
        parameters = sum(each.numel() for each in weights.values())
        return publish(draft, read_curve(curve), parameters, initial, store=store, producer=producer)


def untrained_heads(artifact: Artifact, store: Store) -> list[str]:
    """Those that an imported model came without, and that a training had nothing to train by."""
    totals = store.manifest(artifact).totals
    return [*totals.get("lacking", []), *totals.get("untrained", [])]


def _means(last: Collection[dict[str, Any]]) -> dict[str, float]:
    """Over the last steps."""
    names = ["loss", "masked_lm_loss", "masked_lm_accuracy"]
    if any(line["next_sentence_loss"] for line in last):  # else there are no pairs
        names += ["next_sentence_loss", "next_sentence_accuracy"]
    return {name: sum(line[name] for line in last) / len(last) for name in names}
