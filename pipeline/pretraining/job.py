"""What the launcher tells the ranks: a small record in a file. Secrets stay out of it, in the environment."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.config import PretrainingConfig, Settings
from pipeline.store import Artifact, Recipe

SCHEMA = 3
TRAINED = "trained"
"""The snapshot of a finished training; sorts after every step's."""


@dataclass(frozen=True)
class Job:
    """One training, for any number of ranks."""

    config: PretrainingConfig
    dataset: Artifact
    settings: Settings
    folder: Path
    """Scratch of the launcher: rank 0 writes `progress.jsonl` there, a failing rank `error`."""
    epoch: int | None = None
    """The lease's, under which the ranks commit their snapshots."""

    @property
    def recipe(self) -> Recipe:
        return Recipe("pretraining", self.config, SCHEMA, parents=(self.dataset,))

    @property
    def progress(self) -> Path:
        return self.folder / "progress.jsonl"

    @property
    def error(self) -> Path:
        return self.folder / "error"

    def write(self) -> Path:
        """Write the record; returns its path."""
        path = self.folder / "job.json"
        record = {
            "config": self.config.model_dump(mode="json"),
            "dataset": asdict(self.dataset),
            "settings": self.settings.model_dump(mode="json"),
            "epoch": self.epoch,
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
        )
