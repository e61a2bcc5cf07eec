"""Can it learn at all? One batch, trained on again and again: its loss must go to nothing.

Where it doesn't, no amount of data will help: the learning rate, the model or the labels are wrong. The batch is the
training's own first one. One rank, launched as those of a training are, with the real engine, without dropout and at a
constant rate; nothing is kept.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Plug, PretrainingConfig
from pipeline.errors import BertmillError, TrainingError
from pipeline.launching import launcher_named
from pipeline.launching.tether import exit_with_launcher
from pipeline.pretraining.job import Job, job_of
from pipeline.pretraining.running import begin_log, failure_of
from pipeline.pretraining.scratch import scratch_folder
from pipeline.store import Artifact, Store

if TYPE_CHECKING:
    from pipeline.dataset.plan import Plan

STEPS = 200
WARMUP_SHARE = 0.05
TOLD_EVERY = 10
LEARNED = 0.1
"""Of its first loss a batch has that is learned by heart."""


def overfit_one_batch(
    config: PretrainingConfig, dataset: Artifact, *, store: Store, tell: Callable[[str], None], steps: int = STEPS
) -> None:
    """Train on the first step's batch alone; `tell` gets a line now and then, and the verdict.

    Raises as `pretrain` does for what can't be trained, and TrainingError where the batch isn't learned.
    """
    with scratch_folder() as folder:
        job = job_of(config, dataset, store, folder)
        log = job.log.with_suffix(".overfit.log")
        begin_log(log)
        job = replace(job, config=overfitting(job.config, steps))
        lines = _lines(job)
        lines.touch()
        with lines.open(encoding="utf-8") as told:

            def poll() -> None:
                for line in told.readlines():
                    tell(line.rstrip())

            launcher = launcher_named(store.settings.launcher)
            status = launcher("pipeline.pretraining.overfit", job.write(), 1, log, poll)
            poll()
        if status != 0:
            raise TrainingError(failure_of(job, status, log))


def overfitting(config: PretrainingConfig, steps: int) -> PretrainingConfig:
    """Of a settled config the first phase alone, for so many steps."""
    return config.model_copy(
        update={
            "hidden_dropout_prob": 0.0,
            "schedule": Plug(name="constant"),
            "max_steps": steps,
            "warmup_share": WARMUP_SHARE,
            "phases": tuple(phase.model_copy(update={"steps": steps}) for phase in config.phases[:1]),
            "floor_step": None,
        }
    )


def main(path: Path) -> None:
    """What the rank runs."""
    job = Job.read(path)
    try:
        _run(job)
    except BertmillError as error:
        job.error.write_text(str(error), encoding="utf-8")
        raise SystemExit(2) from None


def _run(job: Job) -> None:
    from pipeline.pretraining.engine import check_device, initialise, join
    from pipeline.pretraining.rank import fitting_plan, new_model
    from pipeline.pretraining.systems import systems_config
    from pipeline.store import open_store

    config, store = job.config, open_store(job.settings)
    join(job.settings)
    check_device(config)
    model = new_model(job, store)
    plan = fitting_plan(job, model, 1, store)
    engine = initialise(model, config, systems_config(config.deepspeed), 1)
    with _lines(job).open("a", encoding="utf-8", buffering=1) as lines:

        def tell(line: str) -> None:
            lines.write(f"{line}\n")

        first, last = _learn(engine, plan, config, tell)
        if not last < LEARNED * first:
            raise TrainingError(
                f"After {config.steps} steps on one batch its loss is {last:.4f}, from {first:.4f}: not learned by "
                f"heart. Try another pretraining.learning_rate ({config.learning_rate:g} now), and look at samples "
                f"with `bertmill show {job.dataset.reference} --samples 5`."
            )
        tell(f"learned by heart: {last:.4f}, from {first:.4f}. Model, labels and optimizer work together.")


def _learn(engine: Any, plan: "Plan", config: PretrainingConfig, tell: Callable[[str], None]) -> tuple[float, float]:
    """Train on the plan's first step until it is learned by heart, or to the end; returns its first and last loss."""
    import torch

    from pipeline.pretraining.guard import Guard
    from pipeline.pretraining.model.bert import TensorBatch
    from pipeline.pretraining.schedule import learning_rate

    guard, batches = Guard(engine, config.gradient_clipping), plan.batches(0, 0)
    predictions, sequences = sum(b.predictions for b in batches), sum(b.sequences for b in batches)
    longest = max(int(batch.lengths[batch.datasets >= 0].max(initial=0)) for batch in batches)
    tell(f"one batch: {sequences:,} samples of up to {longest} tokens, {predictions:,} predictions")
    has_pairs, first, loss = plan.pairs != "none", 0.0, 0.0
    for step in range(config.steps):
        for group in engine.optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        sums = torch.zeros(4, dtype=torch.float64, device=engine.device)
        for batch in batches:
            losses = engine(TensorBatch.of(batch, engine.device))
            whole = losses.masked_lm / predictions + has_pairs * losses.next_sentence / sequences
            engine.backward(guard.scaled(whole), scale_wrt_gas=False)
            sums += torch.stack([each.detach().double() for each in losses])
        guard.step(sums[:2])
        masked_lm, next_sentence, right, right_pairs = sums.tolist()
        loss = masked_lm / predictions + has_pairs * next_sentence / sequences
        first = loss if step == 0 else first
        if step % TOLD_EVERY == 0 or step + 1 == config.steps:
            tell(
                f"step {step:4}: loss {loss:.4f}, masked-LM accuracy {right / predictions:.3f}, "
                f"next-sentence accuracy {right_pairs / sequences:.3f}"
            )
            if loss < LEARNED * first:
                break
    return first, loss


def _lines(job: Job) -> Path:
    return job.folder / "lines"


if __name__ == "__main__":
    exit_with_launcher()
    main(Path(sys.argv[1]))
