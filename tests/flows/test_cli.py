"""`bertmill run`: what it prints, what it leaves on the server, and how it fails."""

import re
from pathlib import Path

from pipeline.store import open_store
from tests.flows.conftest import User
from tests.flows.runs import runs_named
from tests.texts import lines, rows, write


def test_one_stage_runs_as_a_flow_that_the_server_shows_as_completed(user: User, here: User, preset: str) -> None:
    status, out, err = user.call("run", preset, "--only", "corpus")
    assert status == 0, err
    (run,) = runs_named(f"corpus of {preset}")
    assert run.state_name == "Completed"
    assert f"/runs/flow-run/{run.id}" in out
    (manifest,) = open_store(user.settings).versions()
    assert out.splitlines()[-1] == f"corpus/mine@{manifest.version}"


def test_a_source_that_can_not_be_read_is_one_sentence_and_a_failed_run(
    user: User, here: User, preset: str, tmp_path: Path
) -> None:
    write(tmp_path / "mine.jsonl", lines(rows(3)) + "no JSON\n")
    status, out, err = user.call("run", preset, "--only", "corpus")
    assert (status, out) == (2, "")
    assert said(err) == [
        "bertmill: 1 of 4 rows can't be used, over max_bad_share = 0.01: mine/mine.jsonl line 4: not JSON. "
        "Mend the source, or raise corpus.max_bad_share."
    ]
    assert open_store(user.settings).versions() == []
    (run,) = runs_named(f"corpus of {preset}")
    assert run.state_name == "Failed"


def test_what_is_wrong_before_the_run_starts_none(user: User, here: User, preset: str, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").unlink()
    status, out, err = user.call("run", preset)
    assert (status, out) == (2, "")
    assert len(said(err)) == 1
    assert "There is no file" in err
    assert runs_named(preset) == []


def said(err: str) -> list[str]:
    """The lines on standard error without the log's, which begin with the time."""
    return [line for line in err.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]
