"""The library's command line as its users meet it: what a command answers, where it says it, and how it refuses."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.config import INPUTS, STAGES
from pipeline.preset import load_preset, shipped_presets
from tests.processes import living_with
from tests.texts import SUFFIXES, compressed, lines, rows, write
from tests.users import COMMAND, LIBRARY, Done, User, check_refused, said

PRESET = """
extends = "tiny"
corpus.name = "mine"
corpus.heldout_share = 0.3
corpus.sources = [{{ path = "{source}", format = "jsonl", name = "mine", licence = "own" }}]
vocabulary.name = "mine"
vocabulary.size = 60
dataset.name = "mine"
dataset.max_seq_length = 32
{more}
"""


def preset_of(folder: Path, source: str = "mine.jsonl", more: str = "", name: str = "preset") -> Path:
    """A preset whose data stages take no time, once its source is there."""
    return write(folder / f"{name}.toml", PRESET.format(source=source, more=more))


@pytest.fixture
def user(tmp_path: Path) -> User:
    """A user whose store is empty."""
    return User(tmp_path / "home")


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    write(tmp_path / "mine.jsonl", lines(rows(30)))
    return preset_of(tmp_path)


@dataclass(frozen=True)
class Made(User):
    """A home in which the stages before training have run, and what they said."""

    preset: Path
    stages: dict[str, Done]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    write(folder / "mine.jsonl", lines(rows(30)))
    preset, user = preset_of(folder), User(folder / "home")
    return Made(user.home, preset, {stage: user.call(stage, preset) for stage in STAGES[:3]})


@pytest.mark.parametrize("module", ["pipeline", "flows.cli"])
def test_help_lists_every_command_and_loads_neither_torch_nor_prefect(module: str, user: User) -> None:
    code = f"import typer.main, pipeline.cli_store as cli, {module}; print(*typer.main.get_command(cli.app).commands)"
    commands = set(user.call(python=("-c", code)).stdout.split())
    assert {*STAGES, "presets", "config"} <= commands
    assert {"ls", "show", "du", "verify", "lineage", "tag", "retract", "gc", "export", "doctor"} <= commands
    helped = user.call("--help", python=("-X", "importtime", "-m", module))
    assert helped.returncode == 0
    assert set(re.findall(r"^│ (\w[\w-]*) {2,}\w", helped.stdout, re.MULTILINE)) == commands
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in helped.stderr.splitlines()}
    assert "typer" in loaded, "what was loaded is listed"
    assert not loaded & {"torch", "prefect"}


def test_version_is_the_installed_one(user: User) -> None:
    assert user.answer("--version") == [f"bertmill {version('bertmill')}"]


def test_presets_lists_each_with_its_description(user: User) -> None:
    listed = [tuple(line.split(maxsplit=1)) for line in user.answer("presets")]
    assert listed == [(name, load_preset(name).description) for name in shipped_presets()]


AWKWARD = r"""
extends = "tiny"
description = "Quotes \" and ', a \\, a\ttab, 流過磨坊"
corpus.max_bad_share = 1e-7
corpus.sources = [{ path = "~/a b/*.gz", format = "text", name = "mine", licence = "own", documents = "file" }]
vocabulary.strip_accents = false
evaluation.tasks = [{ name = "metadata", label = "date", boundaries = [1800, 1900] }, { name = "other", share = -0.5 }]
evaluation.seeds = []
"""


@pytest.mark.parametrize("name", [*shipped_presets(), "awkward.toml"])
def test_what_config_prints_is_an_equal_preset_with_every_value_written_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("awkward.toml"), AWKWARD)
    words = ["config", name, "--set", "pretraining.max_steps=7", "--name", "other"]
    printed = CliRunner().invoke(app, words, catch_exceptions=False).stdout
    resolved = load_preset(name, ["pretraining.max_steps=7"], "other")
    assert load_preset(str(write(Path("printed.toml"), printed))) == resolved
    assert set(tomllib.loads(printed)["pretraining"]) == {
        each for each, value in resolved.pretraining if value is not None
    }


def test_a_stage_answers_with_its_reference_alone_and_logs_to_standard_error(made: Made) -> None:
    for stage, done in made.stages.items():
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{made.store.resolve(f'{stage}/mine')}\n"
        assert said(done) == []
        assert f"made {stage}/mine@" in done.stderr


def test_a_finished_stage_is_found_and_answers_the_same(made: Made) -> None:
    again = made.call("dataset", made.preset)
    assert again.stdout == made.stages["dataset"].stdout
    assert f"found {again.stdout}" in again.stderr


def test_overrides_leave_latest_alone_unless_the_run_has_a_name_of_its_own(user: User, preset: Path) -> None:
    changed = ("--set", "corpus.min_characters=5")
    (own,), (other,) = user.answer("corpus", preset), user.answer("corpus", preset, *changed)
    assert other != own
    assert user.store.resolve("corpus/mine@latest").reference == own
    (named,) = user.answer("corpus", preset, *changed, "--name", "short")
    assert user.store.resolve("corpus/short@latest").reference == named


def test_an_input_that_is_given_takes_the_place_of_the_presets_own(user: User, preset: Path) -> None:
    user.answer("corpus", preset)
    (other,) = user.answer("corpus", preset, "--set", "corpus.documents_per_shard=5", "--name", "other")
    (vocabulary,) = user.answer("vocabulary", preset, "--corpus", "corpus/other")
    manifest = user.store.manifest(user.store.resolve(vocabulary))
    assert [parent.reference for parent in manifest.parents] == [other]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_takes_others_of_its_inputs_and_of_nothing_else(stage: str) -> None:
    shown = CliRunner().invoke(app, [stage, "--help"], env={"COLUMNS": "100"}, catch_exceptions=False).stdout
    assert {kind for kind in STAGES if re.search(rf"--{kind}\b", shown)} == set(INPUTS[stage])


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a preset for each way in which a source or a preset can be wrong."""
    folder = tmp_path_factory.mktemp("broken")
    write(folder / "mine.jsonl", data := lines(rows(200)))
    write(folder / "deepspeed.json", '{"optimizer": {}}')
    (folder / "empty.jsonl").touch()
    (folder / "latin.jsonl").write_bytes(data.encode() + '{"text": "Mühle"}\n'.encode("latin-1") * 5)
    for suffix in SUFFIXES[1:]:
        (folder / f"cut.jsonl{suffix}").write_bytes(compressed(data.encode(), suffix)[:-20])
    for source in ("missing.jsonl", "empty.jsonl", "latin.jsonl", "cut.jsonl.gz", "cut.jsonl.zst"):
        preset_of(folder, source, name=source)
    preset_of(folder, name="sound")
    preset_of(folder, name="typo", more="corpus.heldout_shar = 0.2")
    preset_of(folder, name="range", more="corpus.max_bad_share = 2")
    preset_of(folder, name="deepspeed", more=f"pretraining.deepspeed = '{folder}/deepspeed.json'")
    return folder


MISTAKES = {
    "corpus missing.jsonl.toml": "There is no file .*/missing.jsonl .* Correct its path",
    "corpus empty.jsonl.toml": "empty.jsonl .* is empty. Remove it, or fetch it again",
    "corpus latin.jsonl.toml": "5 of 205 rows .*line 201: not UTF-8.* Mend the source, or raise corpus.max_bad_share",
    "corpus cut.jsonl.gz.toml": "cut.jsonl.gz is cut off: .* Fetch or make it again",
    "corpus cut.jsonl.zst.toml": "cut.jsonl.zst is cut off: .* Fetch or make it again",
    "corpus typo.toml": "unknown key corpus.heldout_shar. Did you mean 'heldout_share'",
    "corpus range.toml": "corpus.max_bad_share is 2: Input should be less than or equal to 1",
    "corpus sound.toml --set max_bad_share=1": "is not of the form table.key=value, such as",
    "corpus sound.toml --name Mine": "The artifact name 'Mine' must be 1 to 63 of a-z",
    "corpus nowhere.toml": "There is no preset file .* Give the path of a .toml file, or one of: base_en",
    "corpus tny": "There is no preset 'tny'. Did you mean 'tiny'",
    "corpus base_en": "has no sources. Add one, such as: ",
    "vocabulary sound.toml": "corpus/mine has not been made yet .* `bertmill corpus PRESET` makes it",
    "vocabulary sound.toml --corpus corpus/nope": "has no corpus/nope. It is empty: `bertmill run tiny` fills it",
    "BERTMILL_STORE=file://{broken}/mine.jsonl/store corpus sound.toml": "set BERTMILL_STORE to a place that can be",
    "BERTMILL_STORE=ftp://host/store corpus sound.toml": "it reads file:///folder or s3://bucket/prefix",
    "BERTMILL_STOER=x corpus sound.toml": "means nothing here. Did you mean 'BERTMILL_STORE'",
    "BERTMILL_STOER=x run sound.toml": "means nothing here. Did you mean 'BERTMILL_STORE'",
    "BERTMILL_WORKERS=0 corpus sound.toml": "BERTMILL_WORKERS is '0': Input should be greater than or equal to 1",
    "run deepspeed.toml": "sets 'optimizer', which the preset owns. Remove it there; set pretraining.learning_rate",
    "run sound.toml --only corpse": "There is no stage 'corpse'. Did you mean 'corpus'",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_users_mistake_is_one_sentence_with_what_to_do_and_leaves_no_artifact(
    words: str, broken: Path, user: User
) -> None:
    given = [word.format(broken=broken) for word in words.split()]
    variables = dict(word.split("=", 1) for word in given if word.startswith("BERTMILL_"))
    arguments = [broken / word if word.endswith(".toml") else word for word in given[len(variables) :]]
    check_refused(user.call(*arguments, python=COMMAND if "run" in given else LIBRARY, **variables), MISTAKES[words])
    assert not [*user.home.glob("store/artifacts/**/*"), *user.home.glob("store/aliases/**/*")]


def test_an_input_of_another_kind_is_refused_in_one_sentence_and_nothing_is_changed(made: Made) -> None:
    before = sorted((made.home / "store").rglob("*"))
    done = made.call("vocabulary", made.preset, "--corpus", "vocabulary/mine")
    check_refused(done, "vocabulary/mine is a vocabulary, where a corpus is wanted")
    assert sorted((made.home / "store").rglob("*")) == before


@pytest.mark.parametrize("words", ["corpus", "corpus tiny --nope", "nope", "corpus tiny --corpus corpus/x", "tag a"])
def test_a_wrong_use_of_a_command_shows_its_usage_and_exits_with_2(words: str, user: User) -> None:
    done = user.call(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("workers", "sent"), [("1", os.killpg), ("2", os.killpg), ("2", os.kill)], ids=["one", "two", "two, from outside"]
)
def test_an_interrupted_stage_ends_at_once_with_130_and_a_sentence(
    workers: str, sent: Callable[[int, int], None], user: User, tmp_path: Path
) -> None:
    """Ctrl-C reaches all processes of a terminal, an interrupt from outside the one it is sent to."""
    (tmp_path / "a.jsonl.zst").write_bytes(compressed(lines(rows(1)).encode() * 10_000, ".zst") * 3_000)  # minutes
    write(tmp_path / "b.jsonl", lines(rows(3)) * 40_000)  # large enough to be a batch of its own
    (scratch := tmp_path / "scratch").mkdir()
    process = subprocess.Popen(
        [sys.executable, *LIBRARY, "corpus", preset_of(tmp_path, "*.jsonl*")],
        env=user.environment(BERTMILL_WORKERS=workers, TMPDIR=str(scratch)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        # Not sooner: pyarrow's first conversion imports pandas, and an interrupt meanwhile is lost in its C++ code.
        reading = {"scratch/*/train/*.arrow": 10_000}
        if workers == "2":
            reading["home/store/parts/corpus/*.json"] = 1
        deadline = time.monotonic() + 60
        while not all(
            any(found.stat().st_size >= size for found in tmp_path.glob(pattern)) for pattern, size in reading.items()
        ):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        sent(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=10)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert (process.returncode, out) == (130, ""), err
    done = Done([], process.returncode, out, err)
    assert said(done) == ["bertmill: interrupted; run the same command again to go on."]
    assert not living_with(f"TMPDIR={scratch}", within_s=10)
