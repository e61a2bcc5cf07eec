"""A dataset's card is a table of what was counted."""

import re
from pathlib import Path

import pytest

from pipeline.dataset.summary import card_rows
from pipeline.store import Store
from tests.dataset.byhand import Parents, config, parents
from tests.small import small_rows


@pytest.fixture
def given(store: Store, tmp_path: Path) -> Parents:
    return parents(store, tmp_path, small_rows())


def test_the_card_has_a_row_for_each_measure_length_and_source(given: Parents) -> None:
    made = given.build()
    rows = card_rows(given.store.manifest(made).metrics)
    assert {*rows[0]} == {"measure", "train", "held-out"}
    measures = [row["measure"] for row in rows]
    assert measures[0] == "samples"
    lengths = [int(re.findall(r"\d+", each)[0]) for each in measures if each.startswith("samples of up to")]
    assert lengths == list(range(6, config().max_seq_length + 1, 6)), "shorter ones first"
    assert measures[-1] == "tokens of source mine"
    assert "sentences without words" not in measures, "nothing was segmented"
