"""The evaluation stage: held-out scores, and each task fine-tuned next to its controls.

A task is fine-tuned once for each seed, and its score is the median, since single runs vary and some collapse. The gain
over the same encoder with random weights is what pretraining bought.
"""

import json
import logging
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import EvaluationConfig, bound
from pipeline.corpus.document import read_documents
from pipeline.errors import ConfigError
from pipeline.evaluation.metrics import accuracy, bootstrap_interval, has_collapsed, macro_f1
from pipeline.evaluation.tasks import TASKS, Examples
from pipeline.pretraining.publish import untrained_heads
from pipeline.progress import progress
from pipeline.store import Artifact, Draft, Recipe, Store

if TYPE_CHECKING:
    from pipeline.dataset.samples import Samples

SCHEMA = 3
log = logging.getLogger("bertmill")


def evaluate(
    config: EvaluationConfig,
    checkpoint: Artifact,
    dataset: Artifact,
    corpus: Artifact,
    *,
    store: Store,
    force: bool = False,
) -> Artifact:
    """Score a checkpoint on held-out samples of the dataset and on the tasks.

    Raises ConfigError for an unknown task or keyword, for a dataset of another vocabulary and for a model that has
    nothing to score, InputError for a task with fewer than two classes; all before any scoring.
    """
    tasks = [(name, bound(plug, TASKS, "task")) for name, plug in zip(task_names(config), config.tasks, strict=True)]
    recipe = Recipe("evaluation", config, SCHEMA, parents=(checkpoint, dataset, corpus))
    if not force and (found := store.find(recipe)):
        log.info("found %s", found)
        return found
    _check_vocabulary(checkpoint, dataset, store)
    from pipeline.dataset.samples import Samples
    from pipeline.evaluation.heldout import heldout_scores

    samples = Samples(store, dataset, "heldout")
    objectives, left_out = _objectives(checkpoint, samples, config, store)
    examples = {name: task(corpus, store) for name, task in tasks}
    _quiet_transformers()
    with store.draft(recipe, force=force) as draft, tempfile.TemporaryDirectory(prefix="bertmill-") as scratch:
        model = Path(scratch) / "model"
        store.export(checkpoint, model)
        scores: dict[str, Any] = {
            "heldout": heldout_scores(model, samples, config.heldout_samples, objectives) if objectives else {}
        }
        if left_out:
            scores["left_out"] = left_out
        lang = _language(corpus, store)
        scores["tasks"] = {name: _score_task(name, each, model, lang, config, draft) for name, each in examples.items()}
        (draft.folder / "scores.json").write_text(json.dumps(scores, indent=1, ensure_ascii=False), encoding="utf-8")
        draft.add("scores.json")
        made = draft.commit(totals={"tasks": len(tasks), "seeds": len(config.seeds)}, metrics=scores)
    log.info("made %s", made)
    return made


def _check_vocabulary(checkpoint: Artifact, dataset: Artifact, store: Store) -> None:
    vocabulary = store.parent(dataset, "vocabulary")
    own, wanted = store.manifest(checkpoint).file("model/vocab.txt"), store.manifest(vocabulary).file("vocab.txt")
    if own.sha256 != wanted.sha256:
        raise ConfigError(
            f"{checkpoint} was trained with another vocabulary than {vocabulary}, of which {dataset} is made: its "
            f"samples would be other words to it. Give a dataset of the checkpoint's own vocabulary."
        )


def _objectives(
    checkpoint: Artifact, samples: "Samples", config: EvaluationConfig, store: Store
) -> tuple[list[str], list[str]]:
    """Which objectives the model is scored on, and which not, for nothing trained the heads: that is said."""
    from pipeline.evaluation.heldout import THROUGH, objectives_of

    lacking = untrained_heads(checkpoint, store)
    asked = objectives_of(samples)
    left_out = [name for name in asked if THROUGH[name] & set(lacking)]
    able = [name for name in asked if name not in left_out]
    if not left_out:
        return able, []
    what = f"{checkpoint} has no trained {', '.join(lacking)}"
    if not able and not config.tasks:
        raise ConfigError(
            f"{what}: it predicts nothing of held-out text, and evaluation.tasks names nothing else to score. Name a "
            f"task, or train on from it (pretraining.init), which makes the heads."
        )
    log.warning(
        "%s: held-out %s scores are left out, for such a head has learned nothing", what, " and ".join(left_out)
    )
    return able, left_out


def task_names(config: EvaluationConfig) -> list[str]:
    """A name for each task: the function's and its label's, numbered where that repeats."""
    names = list[str]()
    for plug in config.tasks:
        name = "-".join([plug.name, *(str(plug.keywords[key]) for key in ("label",) if key in plug.keywords)])
        taken = sum(known.partition(".")[0] == name for known in names)
        names.append(f"{name}.{taken + 1}" if taken else name)
    return names


def _score_task(
    name: str, examples: Examples, model: Path, lang: str, config: EvaluationConfig, draft: Draft
) -> dict[str, Any]:
    """The task's scores: the encoder's and the controls', with every prediction kept."""
    from pipeline.evaluation.controls import majority, tf_idf
    from pipeline.evaluation.finetune import finetune

    gold = [example.label for example in examples.test]
    runs: dict[str, list[list[str]]] = {
        "pretrained": [],
        "random_weights": [],
        "tf_idf": [tf_idf(examples, lang)],
        "majority": [majority(examples)],
    }
    with progress(f"fine-tuning on {name}", 2 * len(config.seeds)) as advance:
        for seed in config.seeds:
            for kind in ("pretrained", "random_weights"):
                predicted = finetune(model, examples, config, seed=seed, random_weights=kind == "random_weights")
                runs[kind].append(predicted)
                advance(1, f"{kind}: accuracy {accuracy(gold, predicted):.3f}")
    for kind, predictions in runs.items():
        for number, predicted in enumerate(predictions):
            _keep(draft, f"predictions/{name}-{kind}-{number + 1}.jsonl", examples, predicted)
    return {
        "examples": {"train": len(examples.train), "test": len(examples.test)},
        "classes": sorted(set(gold)),
    } | {kind: _summary(gold, predictions) for kind, predictions in runs.items()}


def _summary(gold: Sequence[str], predictions: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Median and spread over the seeds; the interval is of the run whose score is the (lower) median."""
    scores = [accuracy(gold, each) for each in predictions]
    middle = statistics.median_low(scores)
    typical = predictions[scores.index(middle)]
    return {
        "accuracy": statistics.median(scores),
        "accuracies": scores,
        "spread": max(scores) - min(scores),
        "interval": bootstrap_interval([a == b for a, b in zip(gold, typical, strict=True)]),
        "macro_f1": statistics.median(macro_f1(gold, each) for each in predictions),
        "collapsed_runs": sum(has_collapsed(each) for each in predictions),
    }


def _keep(draft: Draft, path: str, examples: Examples, predicted: Sequence[str]) -> None:
    """Predictions by the example's id; its text stays in the corpus."""
    target = draft.folder / path
    target.parent.mkdir(exist_ok=True)
    rows = (
        {"id": example.id, "label": example.label, "prediction": label}
        for example, label in zip(examples.test, predicted, strict=True)
    )
    target.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    draft.add(path, rows=len(predicted))


def _language(corpus: Artifact, store: Store) -> str:
    first = store.manifest(corpus).matching("heldout/")[0]
    return next(read_documents(store.blob(first))).lang


def _quiet_transformers() -> None:
    """A new head's weights are new: that is no warning."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
