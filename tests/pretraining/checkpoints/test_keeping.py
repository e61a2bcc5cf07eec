"""Which checkpoints are taken, kept, put off and published; what of a training they hold."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import BertForPreTraining as TheirBert

import pipeline
from pipeline.config import PretrainingConfig
from pipeline.errors import ConfigError, StoreError
from pipeline.pretraining.checkpoints.checkpoint import Checkpoints, is_due
from pipeline.pretraining.checkpoints.storing import step_of, whole_name
from pipeline.pretraining.job import SCHEMA
from pipeline.pretraining.model.bert import BertForPreTraining
from pipeline.pretraining.optimizer import make_optimizer
from pipeline.pretraining.place import Place
from pipeline.pretraining.publish import publish_snapshot
from pipeline.store import Artifact, FileEntry, Recipe, Store, Work
from tests.pretraining.checkpoints.waiting import eventually
from tests.small import Small

ALONE = Place(rank=0, world=1, zero_stage=0)


class Training:
    """What DeepSpeed's engine is without ZeRO in fp32: the module and torch's own optimizer. Steps are drawn."""

    def __init__(self, config: PretrainingConfig, vocabulary_size: int, folder: Path) -> None:
        self.module = BertForPreTraining(config, vocabulary_size)
        self.optimizer = make_optimizer(self.module, config)
        self.device = torch.device("cpu")
        self.curve = folder / "curve.jsonl"
        self.curve.touch()
        self.steps = 0

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            generator = torch.Generator().manual_seed(self.steps)
            for parameter in self.module.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            self.optimizer.step()
            names = ("masked_lm_loss", "masked_lm_accuracy", "next_sentence_loss", "next_sentence_accuracy")
            values = ", ".join(f'"{name}": 0.5' for name in names)
            with self.curve.open("a") as lines:
                lines.write(f'{{"step": {self.steps}, "loss": 1.0, "tokens": 9, {values}}}\n')
            self.steps += 1


@pytest.fixture
def size(small: Small) -> int:
    found: int = small.store.manifest(small.dataset).totals["vocabulary_size"]
    return found


@pytest.fixture
def training(tiny: PretrainingConfig, size: int, tmp_path: Path) -> Training:
    return Training(tiny, size, tmp_path)


def recipe_of(config: PretrainingConfig, small: Small) -> Recipe:
    return Recipe("pretraining", config, SCHEMA, parents=(small.dataset,))


@pytest.fixture
def work(tiny: PretrainingConfig, small: Small, fresh: Store) -> Work:
    return fresh.work(recipe_of(tiny, small))


class SlowWork:
    """A `Work` whose files aren't stored before they may be."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.may_go_on = threading.Event()

    def add(self, source: Path, path: str, snapshot: str) -> Any:
        assert self.may_go_on.wait(60)
        return self.work.add(source, path, snapshot)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.work, name)


@pytest.fixture
def slow(work: Work) -> Iterator[SlowWork]:
    slow = SlowWork(work)
    yield slow
    slow.may_go_on.set()


def steps_in(work: Work) -> list[int]:
    return [step for name in work.names() if (step := step_of(name)) is not None]


def test_weights_moments_and_adams_step_come_back_bit_for_bit(
    training: Training,
    tiny: PretrainingConfig,
    size: int,
    fresh: Store,
    work: Work,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    training.step(3)
    before = Checkpoints(fresh, work, ALONE, tmp_path, tiny)
    assert before.load() is None
    before.save(training, 3, training.curve)
    training.step(2)  # what was copied is no longer what the optimizer has
    assert before.drain(60)

    resume = Checkpoints(fresh, work, ALONE, tmp_path, tiny).load()
    assert resume is not None
    assert (resume.step, len(resume.curve.read_text().splitlines())) == (3, 3)
    again = Training(tiny, size, tmp_path_factory.mktemp("again"))
    resume.fill(again.module)
    resume.restore(again, ALONE)
    again.steps = 3
    again.step(2)
    for (name, one), (_, other) in zip(training.module.named_parameters(), again.module.named_parameters()):
        assert torch.equal(one, other), name


def test_the_last_ones_and_every_so_often_one_are_kept(
    training: Training, tiny: PretrainingConfig, fresh: Store, work: Work, tmp_path: Path
) -> None:
    config = tiny.model_copy(update={"keep_checkpoints": 2, "keep_every": 3})
    checkpoints = Checkpoints(fresh, work, ALONE, tmp_path, config)
    checkpoints.load()
    for step in range(1, 9):
        training.step()
        checkpoints.save(training, step, training.curve)
        assert checkpoints.drain(60)
    assert steps_in(work) == [8, 7, 6, 3]
    assert all(step_of(name) is not None for name in work.names()), "the parts of what is whole are gone"


@pytest.mark.parametrize("keep", [1, 3])
def test_the_bytes_of_those_that_are_kept_are_all_that_the_store_holds(
    keep: int,
    training: Training,
    tiny: PretrainingConfig,
    small: Small,
    any_store: Store,
    tmp_path: Path,
) -> None:
    """On a folder and in a bucket; and in the end nothing, neither there nor in this machine's cache."""
    config = tiny.model_copy(update={"keep_checkpoints": keep})
    work = any_store.work(recipe_of(config, small), 1)
    checkpoints = Checkpoints(any_store, work, ALONE, tmp_path, config)
    checkpoints.load()
    one = 0
    for step in range(1, 7):
        training.step()
        checkpoints.save(training, step, training.curve)
        assert checkpoints.drain(60)
        held = bytes_in(any_store)
        one = one or held
        kept = min(step, keep)
        assert held == pytest.approx(kept * one, rel=0.01), "the curve grows, and a little with it each checkpoint"
    assert one > 12 * sum(each.numel() for each in training.module.parameters())
    assert not list(any_store.backend.list("blobs/"))
    resume = checkpoints.load()
    assert resume is not None
    checkpoints.prepare(training)
    work.clear()
    assert bytes_in(any_store) == 0
    assert not list((any_store.settings.cache or tmp_path).glob("blobs/*/*"))


def test_what_a_killed_run_had_half_stored_goes_with_the_next_checkpoint(
    training: Training, tiny: PretrainingConfig, small: Small, any_store: Store, tmp_path: Path
) -> None:
    """By a run that has taken over; and by ranks that were started anew under the same lease."""
    recipe, config = recipe_of(tiny, small), tiny.model_copy(update={"keep_checkpoints": 1})
    (tmp_path / "half").write_bytes(bytes(1 << 20))
    first, work = any_store.work(recipe, 1), any_store.work(recipe, 2)
    for of, step in ((first, 4), (first, 6), (work, 4), (work, 5)):
        of.add(tmp_path / "half", "half", whole_name(step))
    checkpoints = Checkpoints(any_store, work, ALONE, tmp_path, config)
    assert checkpoints.load() is None
    training.step(5)
    checkpoints.save(training, 5, training.curve)
    assert checkpoints.drain(60)
    held = {each.key.split("/")[4] for each in any_store.backend.list("work/")}
    assert held == {whole_name(5)}
    training.step()
    checkpoints.save(training, 6, training.curve)
    work.add(tmp_path / "half", "half", whole_name(7))
    assert checkpoints.drain(60)
    held = {each.key.split("/")[4] for each in any_store.backend.list("work/")}
    assert held == {whole_name(6), whole_name(7)}, "what another rank just adds stays"
    files = {work.key(entry) for entry in work.load(whole_name(6))[0]}
    assert files == {each.key for each in any_store.backend.list("work/") if is_file_of(whole_name(6), each.key)}


def test_where_one_is_retired_while_it_is_read_the_newer_one_is_gone_on_from(
    training: Training, tiny: PretrainingConfig, fresh: Store, work: Work, tmp_path: Path
) -> None:
    """By an owner that has lost the lease and hasn't noticed yet."""
    config = tiny.model_copy(update={"keep_checkpoints": 1})
    late = Checkpoints(fresh, work, ALONE, tmp_path, config)
    late.load()

    def save(step: int) -> None:
        training.step(2)
        late.save(training, step, training.curve)
        assert late.drain(60)

    class Overtaken(SlowWork):
        def file(self, entry: FileEntry) -> Path:
            if steps_in(self.work) == [2]:
                save(4)
            return self.work.file(entry)

    save(2)
    again = Checkpoints(fresh, Overtaken(work), ALONE, tmp_path, config)  # type: ignore[arg-type]
    resume = again.load()
    assert resume is not None
    assert resume.step == 4


def bytes_in(store: Store) -> int:
    return sum(each.size for each in store.backend.list("") if not each.key.startswith("work/self-test/"))


def is_file_of(name: str, key: str) -> bool:
    return f"/{name}/" in key and not key.endswith(".json")


def test_what_lies_ahead_of_a_new_checkpoint_is_forgotten_for_it_was_passed_over(
    training: Training, tiny: PretrainingConfig, fresh: Store, work: Work, tmp_path: Path
) -> None:
    damaged = {"step": 9, "world": 1, "optimizer_step": 9.0, "parameters": {}, "snapshot": False}
    work.commit("step-000000009", [], damaged)
    checkpoints = Checkpoints(fresh, work, ALONE, tmp_path, tiny.model_copy(update={"keep_checkpoints": 1}))
    assert checkpoints.load() is None
    training.step(4)
    checkpoints.save(training, 4, training.curve)
    assert checkpoints.drain(60)
    assert steps_in(work) == [4]


def test_one_that_is_due_while_the_last_is_under_way_is_put_off_and_training_goes_on(
    training: Training,
    tiny: PretrainingConfig,
    fresh: Store,
    slow: SlowWork,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    checkpoints = Checkpoints(fresh, slow, ALONE, tmp_path, tiny)  # type: ignore[arg-type]
    checkpoints.load()
    training.step(2)
    checkpoints.save(training, 2, training.curve)
    assert not checkpoints.drain(0.05)
    training.step(2)
    checkpoints.save(training, 4, training.curve)
    assert "the checkpoint of step 4 is put off: that of step 2 is still being stored" in caplog.text
    assert checkpoints.status["checkpoint_step"] == 2
    slow.may_go_on.set()
    assert checkpoints.drain(60)
    training.step(2)
    checkpoints.save(training, 6, training.curve)
    assert checkpoints.drain(60)
    assert steps_in(slow.work) == [6, 2]


def test_what_failed_is_in_the_line_of_progress_until_it_is_stored(
    training: Training, tiny: PretrainingConfig, fresh: Store, slow: SlowWork, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(fresh, slow, ALONE, tmp_path, tiny)  # type: ignore[arg-type]
    checkpoints.load()
    real, slow.work = slow.work, SimpleNamespace(add=_unreachable)  # type: ignore[assignment]
    slow.may_go_on.set()
    training.step(2)
    checkpoints.save(training, 2, training.curve)
    assert eventually(lambda: "checkpoint_trouble" in checkpoints.status)
    assert checkpoints.status["checkpoint_trouble"] == "the checkpoint of step 2 isn't stored yet: nobody answers"
    slow.work = real
    assert checkpoints.drain(60)
    assert "checkpoint_trouble" not in checkpoints.status
    assert steps_in(real) == [2]


def test_at_the_end_one_that_cant_be_stored_is_given_up_for_the_whole_weights_come(
    training: Training,
    tiny: PretrainingConfig,
    fresh: Store,
    work: Work,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.pretraining.checkpoints.checkpoint.PATIENCE_S", 0.0)
    checkpoints = Checkpoints(fresh, SimpleNamespace(names=work.names, add=_unreachable), ALONE, tmp_path, tiny)  # type: ignore[arg-type]
    checkpoints.load()
    training.step(2)
    checkpoints.save(training, 2, training.curve)
    checkpoints.finish(within_s=1e6)
    assert steps_in(work) == []


def _unreachable(source: Path, path: str, snapshot: str) -> None:
    raise StoreError("nobody answers")


def test_a_checkpoint_of_another_architecture_is_refused_in_one_sentence(
    training: Training, tiny: PretrainingConfig, size: int, fresh: Store, work: Work, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(fresh, work, ALONE, tmp_path, tiny)
    checkpoints.load()
    training.step()
    checkpoints.save(training, 1, training.curve)
    assert checkpoints.drain(60)
    resume = checkpoints.load()
    assert resume is not None
    wider = BertForPreTraining(tiny.model_copy(update={"intermediate_size": 128}), size)
    with pytest.raises(ConfigError, match=r"of another architecture: layers\.\d\.\S+ is \(\S+.*\) there and \(1?\d+"):
        resume.fill(wider)


def test_a_snapshot_is_an_artifact_of_its_step_while_training_goes_on(
    training: Training,
    tiny: PretrainingConfig,
    small: Small,
    fresh: Store,
    work: Work,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny.model_copy(update={"snapshots": (0.5, 0.2), "max_steps": 10, "keep_checkpoints": 1, "keep_every": 4})
    assert config.snapshot_steps == (2, 5)
    assert (
        recipe_of(config, small).fingerprint == recipe_of(tiny.model_copy(update={"max_steps": 10}), small).fingerprint
    )
    recipe = recipe_of(config, small)

    def publish(step: int, weights: dict[str, torch.Tensor], curve: Path) -> Artifact:
        return publish_snapshot(recipe, step, weights, curve, store=fresh, producer={"world": 1})

    checkpoints = Checkpoints(fresh, fresh.work(recipe), ALONE, tmp_path, config, publish)
    checkpoints.load()
    for step in (2, 4, 6):  # that of step 5 is made of the next that is taken
        training.step(2)
        checkpoints.save(training, step, training.curve)
        assert checkpoints.drain(60)
    version = recipe.version
    assert checkpoints.status["snapshot"] == f"pretraining/tiny@{version}:step=6"
    assert [each.version for each in fresh.listing("pretraining")] == [f"{version}:step=2", f"{version}:step=6"]
    artifact = fresh.resolve(f"pretraining/tiny@{version[:6]}:step=6")
    manifest = fresh.manifest(artifact)
    assert (manifest.totals["steps"], manifest.totals["tokens"]) == (6, 54)
    assert fresh.parent(artifact, "dataset") == small.dataset
    assert fresh.aliases.current("pretraining", "tiny", "latest") is None
    monkeypatch.setenv("BERTMILL_HOME", str(fresh.settings.home))
    loaded = pipeline.load(artifact.reference)
    assert isinstance(loaded, TheirBert)
    assert torch.equal(loaded.cls.predictions.transform.dense.weight, training.module.transform.weight)


def test_a_snapshot_that_a_killed_run_had_not_published_is_made_by_the_next(
    training: Training,
    tiny: PretrainingConfig,
    fresh: Store,
    work: Work,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.pretraining.checkpoints.checkpoint.PATIENCE_S", 0.0)
    config = tiny.model_copy(update={"snapshots": (0.5,)})
    made = list[int]()

    def publish(step: int, weights: dict[str, torch.Tensor], curve: Path) -> Artifact:
        made.append(step)
        if len(made) == 1:
            raise StoreError("nobody answers")
        return Artifact("pretraining", "tiny", "v", "", "")

    checkpoints = Checkpoints(fresh, work, ALONE, tmp_path, config, publish)
    checkpoints.load()
    training.step(6)
    checkpoints.save(training, 6, training.curve)
    assert eventually(lambda: "nobody answers" in checkpoints.status.get("checkpoint_trouble", ""))
    checkpoints.close()
    Checkpoints(fresh, work, ALONE, tmp_path, config, publish).load()
    assert made == [6, 6]


@pytest.mark.parametrize(("step", "due"), [(4, True), (5, True), (6, False), (8, True), (12, False)])
def test_one_is_due_at_intervals_and_at_snapshots_but_not_at_the_end(
    step: int, due: bool, tiny: PretrainingConfig
) -> None:
    assert is_due(tiny.model_copy(update={"checkpoint_every": 4, "snapshots": (0.4,)}), step) == due
