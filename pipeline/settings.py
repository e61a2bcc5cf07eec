"""Where it runs: what the environment says of the store, the launcher and the workers. No part of a fingerprint."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ConfigError, nearest


class Settings(BaseModel):
    """Where it runs. Read from the environment; never part of a fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    home: Path = Path("~/.bertmill")
    """BERTMILL_HOME: the default store, the local Prefect server's database, caches."""
    store: str = ""
    """BERTMILL_STORE: `file:///folder` or `s3://bucket/prefix`. Default: `store` under the home."""
    store_single_writer: bool = False
    """BERTMILL_STORE_SINGLE_WRITER: the user's word that one process at a time commits, for a store without
    create-only writes; recorded in every manifest."""
    cache: Path | None = None
    """BERTMILL_CACHE: verified copies of remote blobs. Default: `cache` under the home."""
    cache_gb: Annotated[float, Field(gt=0)] = 50
    """BERTMILL_CACHE_GB: how many bytes the cache may hold, in units of 1e9; copies in use may be over it."""
    store_deadline_s: Annotated[float, Field(gt=0)] = 300
    """BERTMILL_STORE_DEADLINE_S: for how long one request to object storage is tried again, in all."""
    store_kms_key: str | None = None
    """BERTMILL_STORE_KMS_KEY: the KMS key by which object storage encrypts what is written (SSE-KMS)."""
    store_grace_days: Annotated[float, Field(gt=0)] = 7.0
    """BERTMILL_STORE_GRACE_DAYS: for how long `bertmill gc` leaves alone what was written. Longer than any single stage
    but pretraining takes; the same wherever one store is used."""
    launcher: str = "local"
    """BERTMILL_LAUNCHER: a key of `pipeline.launching.LAUNCHERS`."""
    ranks: Annotated[int, Field(ge=1)] | None = None
    """BERTMILL_RANKS: training processes on this node. Default: one a GPU; without GPUs 2, or 1 on a single core."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """BERTMILL_WORKERS: processes or threads for the data stages. Default: the machine's cores."""
    tensorboard: Path | None = None
    """BERTMILL_TENSORBOARD: a folder under which trainings write their figures for TensorBoard."""
    lease_s: Annotated[float, Field(ge=0.5)] = 60.0
    """BERTMILL_LEASE_S: seconds without a heartbeat after which another run takes over a training. The same wherever
    one store is used."""
    hang_s: Annotated[float, Field(gt=0)] = 300.0
    """BERTMILL_HANG_S: seconds without a sign of life from any training rank after which they are taken for hung."""
    hang_steps: Annotated[float, Field(ge=2)] = 20.0
    """BERTMILL_HANG_STEPS: the same in usual steps; the longer of the two counts."""
    start_s: Annotated[float, Field(gt=0)] = 1_800.0
    """BERTMILL_START_S: the same while they load, compile, validate or store: whatever isn't a step."""
    restarts: Annotated[int, Field(ge=0)] = 3
    """BERTMILL_RESTARTS: how often ranks that hang or die in mid-training are started again from the last checkpoint,
    before the training fails."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read `BERTMILL_*`. Raises ConfigError for an unknown name or a value out of range."""
        environment = os.environ if environment is None else environment
        given = {key[9:].lower(): value for key, value in environment.items() if key.startswith("BERTMILL_") and value}
        if unknown := sorted(set(given) - set(cls.model_fields)):
            variables = [f"BERTMILL_{name.upper()}" for name in cls.model_fields]
            raise ConfigError(
                f"The environment variable BERTMILL_{unknown[0].upper()} means nothing here. "
                f"{nearest(f'BERTMILL_{unknown[0].upper()}', variables)}"
            )
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            problem = error.errors()[0]
            name = f"BERTMILL_{str(problem['loc'][0]).upper()}"
            raise ConfigError(f"{name} is {given[str(problem['loc'][0])]!r}: {problem['msg']}.") from None
        home = settings.home.expanduser().absolute()
        return settings.model_copy(
            update={
                "home": home,
                "store": settings.store or (home / "store").as_uri(),
                "cache": (settings.cache or home / "cache").expanduser().absolute(),
                "workers": settings.workers or _cores(),
            }
        )


def _cores() -> int:
    """Cores this process may use (a container's share, where the system says)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
