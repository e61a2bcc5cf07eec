"""What is said of a run's ranks before they start."""

import os

import pytest

from pipeline.pretraining.running import warn_of_crowding
from pipeline.settings import Settings


def test_more_ranks_than_cores_are_warned_of_on_this_machine_alone(caplog: pytest.LogCaptureFixture) -> None:
    cores, settings = os.cpu_count() or 1, Settings.from_environment({})
    warn_of_crowding(settings, cores)
    warn_of_crowding(settings.model_copy(update={"launcher": "elsewhere"}), cores + 1)
    assert not caplog.text
    warn_of_crowding(settings, cores + 1)
    assert f"{cores + 1} ranks share {cores} core(s) and wait for each other: set BERTMILL_RANKS" in caplog.text
