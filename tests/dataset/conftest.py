"""One small dataset for all of these tests."""

import pytest

from tests.small import Small, small_home


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A home with a corpus, a vocabulary and a dataset."""
    return small_home(tmp_path_factory.mktemp("small") / "home")
