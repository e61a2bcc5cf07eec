"""The same encoder trained by us and by transformers' Trainer, on the same samples: held-out loss by step and by time.

    python benchmarks/quality.py --preset tiny --steps 1100 --every 100

Same architecture, initial weights, batch, steps, rate, warmup, decay, clipping and AdamW; one process each, one after
the other, on all cores. Theirs is `Trainer` with `BertForPreTraining` and its collator for masks over the dataset's
rows, read by `datasets`, padded to the longest of a batch. Both are scored by the same function on the same held-out
samples, and that isn't counted as time. Needs `accelerate`.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pipeline.config import PretrainingConfig
from pipeline.dataset.samples import Samples
from pipeline.mapping import process_map
from pipeline.preset import load_preset
from pipeline.pretraining.job import job_of
from pipeline.pretraining.model.bert import BertForPreTraining
from pipeline.pretraining.place import Place
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.watching.validation import MASKED_LM_PROB, Validation
from pipeline.pretraining.weights.export import from_hugging_face, hugging_face_config, to_hugging_face
from pipeline.settings import Settings
from pipeline.stages import run_stage
from pipeline.store import Artifact, Store, open_store

Curve = list[tuple[int, float, float]]
"""(steps, seconds of training, held-out masked-LM loss)."""
HELDOUT = 2_048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--set", action="append", default=[], metavar="table.key=value")
    parser.add_argument("--steps", type=int, default=1_100)
    parser.add_argument("--every", type=int, default=100, help="steps between two scores")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bertmill-benchmark-") as home:
        os.environ["OMP_NUM_THREADS"] = str(os.cpu_count() or 1)
        store = open_store(Settings.from_environment({"BERTMILL_HOME": home, "BERTMILL_RANKS": "1"}))
        overrides = [*given.set, f"pretraining.max_steps={given.steps}", f"pretraining.validate_every={given.every}"]
        overrides += [f"pretraining.log_every={given.every}", f"pretraining.validation_samples={HELDOUT}"]
        preset = load_preset(given.preset, overrides, "quality")
        with process_map(2) as mapped:
            *_, dataset = (run_stage(stage, preset, store, map=mapped) for stage in ("corpus", "vocabulary", "dataset"))
        curves = {
            "bertmill": ours(preset.pretraining, dataset, store),
            "Trainer": theirs(preset.pretraining, dataset, store, given.every),
        }
    report(curves)


def ours(config: PretrainingConfig, dataset: Artifact, store: Store) -> Curve:
    """`bertmill pretraining`, with the times of its own lines of progress."""
    pretrain(config, dataset, store=store)
    lines = job_of(config, dataset, store).progress.read_text(encoding="utf-8").splitlines()
    curve, seconds = Curve(), 0.0
    for line in map(json.loads, lines):
        if "validation" in line:
            seconds += line["seconds"]
            curve.append((line["step"] + 1, seconds, line["validation"]["masked_lm_loss"]))
    return curve


def theirs(config: PretrainingConfig, dataset: Artifact, store: Store, every: int) -> Curve:
    """Transformers' Trainer from the same weights."""
    import transformers

    size = store.manifest(dataset).totals["vocabulary_size"]
    model = transformers.BertForPreTraining(transformers.BertConfig(**hugging_face_config(config, size)))
    initial = to_hugging_face(BertForPreTraining(config, size).state_dict(), config, size)
    model.load_state_dict(initial, strict=False)
    model.tie_weights()
    with tempfile.TemporaryDirectory() as folder:
        store.export(store.parent(dataset, "vocabulary"), Path(folder) / "vocabulary")
        tokenizer = transformers.AutoTokenizer.from_pretrained(Path(folder) / "vocabulary")
        curve = Curve()
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=str(Path(folder) / "out"),
                max_steps=config.steps,
                per_device_train_batch_size=config.train_batch_size,
                learning_rate=config.learning_rate,
                warmup_steps=config.warmup_steps,
                lr_scheduler_type="linear",
                weight_decay=config.weight_decay,
                adam_beta1=config.adam_beta1,
                adam_beta2=config.adam_beta2,
                adam_epsilon=config.adam_epsilon,
                max_grad_norm=config.gradient_clipping,
                bf16=config.precision == "bf16",
                optim="adamw_torch_fused",
                use_cpu=not torch.cuda.is_available(),
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                logging_steps=10**9,
                seed=1,
                remove_unused_columns=False,
            ),
            train_dataset=rows_of(dataset, store, Path(folder) / "dataset"),
            data_collator=transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED_LM_PROB),
            callbacks=[scorer_of(config, dataset, store, every, curve)],
        )
        trainer.train()
    return curve


def rows_of(dataset: Artifact, store: Store, folder: Path) -> Any:
    """The train split as `Trainer` takes it: ids, types, and the next-sentence label."""
    import datasets

    store.export(dataset, folder)
    files = [str(path) for path in sorted((folder / "train").glob("*.arrow"))]
    rows = datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=str(folder / "cache"))

    def typed(row: dict[str, Any]) -> dict[str, Any]:
        at, length = row["segment_boundary"], len(row["input_ids"])
        return {"token_type_ids": [0] * at + [1] * (length - at)}

    kept = ("input_ids", "token_type_ids", "next_sentence_label")
    return rows.map(typed, remove_columns=[name for name in rows.column_names if name not in kept])


def scorer_of(config: PretrainingConfig, dataset: Artifact, store: Store, every: int, curve: Curve) -> Any:
    """A callback that stops the clock every so many steps, and scores."""
    import transformers

    size = store.manifest(dataset).totals["vocabulary_size"]
    samples = Samples(store, dataset, "heldout", masked_lm_prob=MASKED_LM_PROB)
    place = Place(0, 1, 0)
    validation = Validation({"heldout": samples}, limit=HELDOUT, micro_batch_size=32, place=place)
    scored = BertForPreTraining(config, size)
    scored.device = torch.device("cpu")

    class Scorer(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.seconds, self.since = 0.0, time.monotonic()

        def on_step_end(self, _: Any, state: Any, __: Any, *, model: Any, **___: Any) -> None:
            if state.global_step % every == 0 or state.global_step == config.steps:
                self.seconds += time.monotonic() - self.since
                named = {name: each.detach().float().cpu() for name, each in model.state_dict().items()}
                scored.load_state_dict(from_hugging_face(named, config, size))
                curve.append((state.global_step, self.seconds, validation.scores(scored)["masked_lm_loss"]))
                self.since = time.monotonic()

    return Scorer()


def report(curves: dict[str, Curve]) -> None:
    """Both curves, and what each has when the faster one ends."""
    for name, curve in curves.items():
        print(name)
        for steps, seconds, loss in curve:
            print(f"  {steps:6,} steps {seconds:8.1f} s  {loss:.4f}")
    (_, time_, last), (_, their_time, their_last) = (curve[-1] for curve in curves.values())
    then = [loss for _, seconds, loss in curves["Trainer"] if seconds <= time_]
    print(f"after as many steps: {last:.4f}, theirs {their_last:.4f}, in {their_time / time_:.2f} times the time")
    print(f"after {time_:.0f} s: {last:.4f}, theirs {then[-1] if then else float('nan'):.4f}")


if __name__ == "__main__":
    main()
