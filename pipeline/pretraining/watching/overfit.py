"""Can it learn at all? One batch, trained on again and again: its loss must go to nothing.

Where it doesn't, no amount of data will help: the learning rate, the model or the labels are wrong. One rank, launched
as those of a training are, with the real engine, without dropout and at a constant rate; nothing is kept.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline.config import Plug, PretrainingConfig
from pipeline.errors import ConfigError, TrainingError
from pipeline.launching import launcher_named
from pipeline.launching.tether import exit_with_launcher
from pipeline.pretraining.job import Job, job_of
from pipeline.pretraining.running import failure_of
from pipeline.store import Artifact, Store

STEPS = 200
WARMUP_SHARE = 0.05
TOLD_EVERY = 10
LEARNED = 0.1
"""Of its first loss a batch has that is learned by heart."""


def overfit_one_batch(
    config: PretrainingConfig, dataset: Artifact, *, store: Store, tell: Callable[[str], None], steps: int = STEPS
) -> None:
    """Train on the first step's batch alone; `tell` gets a line now and then, and the verdict.

    Raises TrainingError where it isn't learned.
    """
    fixed = {
        "hidden_dropout_prob": 0.0,
        "schedule": Plug(name="constant"),
        "max_steps": steps,
        "max_tokens": None,
        "warmup_share": WARMUP_SHARE,
        "phases": (),
    }
    with tempfile.TemporaryDirectory(prefix="bertmill-overfit-") as folder:
        job = job_of(config.model_copy(update=fixed), dataset, store, Path(folder))
        lines = _lines(job)
        lines.touch()
        with lines.open(encoding="utf-8") as told:

            def poll() -> None:
                for line in told.readlines():
                    tell(line.rstrip())

            launcher = launcher_named(store.settings.launcher)
            log = job.log.with_suffix(".overfit.log")
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_bytes(b"")
            status = launcher("pipeline.pretraining.watching.overfit", job.write(), 1, log, poll)
            poll()
        if status != 0:
            raise TrainingError(failure_of(job, status, log))


def main(path: Path) -> None:
    """What the rank runs."""
    import torch

    from pipeline.pretraining.engine import check_device, initialise, join
    from pipeline.pretraining.guard import Guard
    from pipeline.pretraining.model.bert import BertForPreTraining, TensorBatch
    from pipeline.pretraining.phases import open_samples, plan_of
    from pipeline.pretraining.schedule import learning_rate
    from pipeline.pretraining.systems import systems_config
    from pipeline.pretraining.weights.initial import start_from
    from pipeline.store import open_store

    job = Job.read(path)
    config, dataset, store = job.config, job.dataset, open_store(job.settings)
    try:
        join(job.settings)
        check_device(config)
    except ConfigError as error:
        job.error.write_text(str(error), encoding="utf-8")
        raise SystemExit(2) from None
    model = BertForPreTraining(config, store.manifest(dataset).totals["vocabulary_size"])
    if job.initial is not None:
        start_from(model, config, job.initial, store.parent(dataset, "vocabulary"), store)
    engine = initialise(model, config, systems_config(config.deepspeed), 1)
    plan = plan_of(config, open_samples(config, dataset, store), world=1, device=engine.device.type)
    guard, batches = Guard(engine, config.gradient_clipping), plan.batches(0, 0)
    predictions, sequences = sum(b.predictions for b in batches), sum(b.sequences for b in batches)
    has_pairs, first, loss = plan.pairs != "none", 0.0, 0.0
    with _lines(job).open("a", encoding="utf-8", buffering=1) as told:
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
                told.write(
                    f"step {step:4}: loss {loss:.4f}, masked-LM accuracy {right / predictions:.3f}, "
                    f"next-sentence accuracy {right_pairs / sequences:.3f}\n"
                )
                if loss < LEARNED * first:
                    told.write(
                        f"learned by heart: {loss:.4f}, from {first:.4f}. Model, labels and optimizer work together.\n"
                    )
                    return
    job.error.write_text(
        f"After {config.steps} steps on one batch its loss is {loss:.4f}, from {first:.4f}: not learned by heart. Try "
        f"another pretraining.learning_rate ({config.learning_rate:g} now), and look at samples with `bertmill show "
        f"{dataset.reference} --samples 5`.",
        encoding="utf-8",
    )
    raise SystemExit(2)


def _lines(job: Job) -> Path:
    return job.folder / "lines"


if __name__ == "__main__":
    exit_with_launcher()
    main(Path(sys.argv[1]))
