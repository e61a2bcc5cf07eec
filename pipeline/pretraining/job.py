"""What the launcher tells the ranks: a small record in a file. Secrets stay out of it, in the environment."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config import PretrainingConfig
from pipeline.pretraining.phases import mixture_identity, named_datasets, settled
from pipeline.pretraining.weights.initial import started_from
from pipeline.settings import Settings
from pipeline.store import Artifact, Recipe, Store

SCHEMA = 4
TRAINED = "trained"
"""The snapshot of a finished training; sorts after every step's."""


@dataclass(frozen=True)
class Job:
    """One training, for any number of ranks."""

    config: PretrainingConfig
    """Settled."""
    dataset: Artifact
    settings: Settings
    folder: Path
    """Scratch of the launcher, which removes it: each rank writes its heartbeat there, a failing one `error`."""
    epoch: int | None = None
    """The lease's, under which the ranks commit their snapshots."""
    initial: Artifact | None = None
    """What training starts from; None starts from the seed."""
    others: tuple[Artifact, ...] = ()
    """Datasets that the phases name beside it."""

    @property
    def recipe(self) -> Recipe:
        parents = (self.dataset, *self.others, *((self.initial,) if self.initial else ()))
        extra = mixture_identity(self.config, self.others)
        return Recipe("pretraining", self.config, SCHEMA, parents=parents, extra=extra)

    @property
    def progress(self) -> Path:
        """Rank 0's lines of progress, of this run and those before it."""
        return self.log.with_suffix(".jsonl")

    @property
    def error(self) -> Path:
        return self.folder / "error"

    @property
    def beats(self) -> Path:
        return self.folder / "beats"

    def scratch(self, rank: int) -> Path:
        """A rank's own. Most ends of a rank give it no time to remove anything."""
        return self.folder / f"scratch-{rank:05d}"

    @property
    def log(self) -> Path:
        """The ranks' output, beside what is to be kept of a failure, and the output of the run before (`.log.1`)."""
        return self.settings.home / "logs" / f"{self.recipe.name}-{self.recipe.fingerprint[:12]}.log"

    @property
    def tensorboard(self) -> Path | None:
        """The folder of this training's events, where there are to be any."""
        folder = self.settings.tensorboard
        return None if folder is None else folder.expanduser().absolute() / self.log.stem

    def write(self) -> Path:
        """Write the record; returns its path."""
        path = self.folder / "job.json"
        record = {
            "config": self.config.model_dump(mode="json"),
            "dataset": asdict(self.dataset),
            "others": [asdict(each) for each in self.others],
            "settings": self.settings.model_dump(mode="json"),
            "epoch": self.epoch,
            "initial": self.initial and asdict(self.initial),
        }
        path.write_text(json.dumps(record), encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> "Job":
        """What `write` wrote."""
        record = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            PretrainingConfig.model_validate(record["config"]),
            Artifact(**record["dataset"]),
            Settings.model_validate(record["settings"]),
            path.parent,
            record["epoch"],
            Artifact(**record["initial"]) if record["initial"] else None,
            tuple(Artifact(**each) for each in record["others"]),
        )


def job_of(config: PretrainingConfig, dataset: Artifact, store: Store, folder: Path = Path()) -> Job:
    """The training that a preset describes: with what its parent decides, and its budget in steps.

    A folder that it starts from is imported. Raises as `started_from` and `settled`.
    """
    config, initial = started_from(config, store)
    config = settled(config, dataset, store)
    return Job(config, dataset, store.settings, folder, initial=initial, others=named_datasets(config, store))


def pretraining_recipe(config: PretrainingConfig, dataset: Artifact, store: Store) -> Recipe:
    """All that decides a training; raises as `job_of`."""
    return job_of(config, dataset, store).recipe
