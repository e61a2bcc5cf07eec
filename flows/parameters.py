"""What a run is started with: one model, which the Prefect UI shows as a form."""

from pydantic import BaseModel, ConfigDict, Field

from pipeline.config import Preset
from pipeline.preset import load_preset
from pipeline.store import Store, open_store


class Run(BaseModel):
    """A preset and what is different this time. Where it runs comes from its process' environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = Field(default="tiny", description="A shipped preset's name, or the path of a .toml.")
    overrides: tuple[str, ...] = Field(default=(), description="table.key=value, such as pretraining.max_steps=100.")
    name: str | None = Field(default=None, description="Name all artifacts of this run so.")
    force: bool = Field(default=False, description="Make another of each artifact, beside what is found.")

    def resolved(self) -> Preset:
        """The preset with its overrides; ConfigError for what is wrong with it."""
        return load_preset(self.preset, self.overrides, self.name)

    def store(self) -> Store:
        """The environment's store; overrides without a name of their own leave `latest` alone."""
        return open_store(moves_latest=not self.overrides or self.name is not None)
