"""The whole way as a user goes it: the command, a real Prefect server, real ranks; found again, killed, on S3."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.corpus.sources import sample_path
from pipeline.settings import Settings
from pipeline.store import Store, open_store
from tests.processes import living_with

STAGES = ("corpus", "vocabulary", "dataset", "pretraining", "evaluation")

PRESET = """
extends = "tiny"

[corpus]
sources = [{{ path = "{corpus}", format = "jsonl", name = "sotu", licence = "public domain" }}]

[vocabulary]
size = 1000

[pretraining]
hidden_size = 32
intermediate_size = 64
max_steps = 60
checkpoint_every = 10

[evaluation]
heldout_samples = 64
seeds = [1]
"""


@dataclass(frozen=True)
class Home:
    """One user's machine: a home, a preset, and the command."""

    folder: Path
    preset: Path
    variables: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"BERTMILL_HOME": str(self.folder)} | self.variables

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "flows.cli", *words]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def bertmill(self, *words: str) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return out

    def store(self) -> Store:
        return open_store(Settings.from_environment(self.environment))

    def digests(self) -> dict[str, str]:
        """Of each stage's artifact in its newest version; of the training, its loss curve."""
        store = self.store()
        names = {manifest.kind: manifest.name for manifest in store.versions()}
        newest = {kind: store.resolve(f"{kind}/{name}@latest") for kind, name in names.items()}
        digests = {kind: artifact.digest for kind, artifact in newest.items()}
        return digests | {"curve": store.manifest(newest["pretraining"]).file("curve.jsonl").sha256}


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny preset made tinier: a part of the sample, a smaller model, few steps."""
    import zstandard

    folder = tmp_path_factory.mktemp("preset")
    lines = zstandard.open(sample_path("sotu-en.jsonl.zst"), "rt", encoding="utf-8").readlines()
    (folder / "few.jsonl").write_text("".join(lines[::4]), encoding="utf-8")
    path = folder / "micro.toml"
    path.write_text(PRESET.format(corpus=folder / "few.jsonl"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def home(preset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home in which one run has finished, undisturbed."""
    home = Home(tmp_path_factory.mktemp("home"), preset, {})
    home.bertmill("run", str(preset))
    yield home
    home.bertmill("down")


def test_a_run_leaves_five_artifacts_and_prints_the_last_ones_reference(home: Home) -> None:
    out = home.bertmill("run", str(home.preset))
    assert re.fullmatch(r"evaluation/tiny@[0-9a-f]{12}", out.strip().splitlines()[-1])
    kinds = [manifest.kind for manifest in home.store().versions()]
    assert sorted(kinds) == sorted(STAGES), "the second run made nothing new"


def test_the_samples_load_with_datasets(home: Home) -> None:
    import datasets

    store = home.store()
    dataset = store.resolve("dataset/sotu-en-64")
    files = [str(store.file(dataset, entry.path)) for entry in store.manifest(dataset).matching("train/")]
    rows = datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=str(home.folder / "hf"))
    assert len(rows) == store.manifest(dataset).totals["rows"]["train"]


def test_the_export_loads_in_transformers(home: Home, tmp_path: Path) -> None:
    home.bertmill("export", "pretraining/tiny", str(tmp_path / "out"))
    code = f"""
import transformers, torch
folder = {str(tmp_path / "out")!r}
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
old = transformers.BertTokenizer.from_pretrained(folder)
text = "The state of the Union, 1862: naïve hopes!"
assert tokenizer(text)["input_ids"] == old(text)["input_ids"]
encoder = transformers.AutoModel.from_pretrained(folder)
assert encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state.isfinite().all()
transformers.BertForSequenceClassification.from_pretrained(folder, num_labels=3)
best = transformers.pipeline("fill-mask", model=folder)("the [MASK] of the union.")
assert len(best) == 5 and all(len(one["token_str"]) for one in best)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


@pytest.mark.long(3, 20)
def test_killed_at_any_moment_and_run_again_it_ends_with_the_same_artifacts(
    home: Home, tmp_path: Path, preset: Path, rounds: int
) -> None:
    moments, kills = random.Random(20_261_123), 0
    for number in range(rounds):  # a run may end before its moment comes: then another is begun
        killed = Home(tmp_path / f"home-{number}", preset, {"PREFECT_API_URL": server_address(home)})
        while not finished(killed, "evaluation"):
            process = killed.start("run", str(preset))
            try:
                _, err = process.communicate(timeout=moments.uniform(4, 24))
                assert process.returncode == 0, err
            except subprocess.TimeoutExpired:
                kills += 1
                process.send_signal(signal.SIGKILL)
                process.communicate()
                assert not living_with(f"BERTMILL_HOME={killed.folder}", within_s=10), "nothing goes on beside the next"
        assert killed.digests() == home.digests()
        if kills >= rounds:
            break
    assert kills >= rounds


def finished(home: Home, kind: str) -> bool:
    return any(manifest.kind == kind for manifest in home.store().versions(kind))


def server_address(home: Home) -> str:
    """The API of the home's Prefect server, so that the other homes of these tests need none of their own."""
    return json.loads((home.folder / "prefect" / "server.json").read_text(encoding="utf-8"))["api_url"]


def test_the_same_run_on_object_storage_gives_the_same_bytes(
    home: Home, s3_server: dict[str, str], tmp_path: Path, preset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    url = "s3://bertmill-tests/end-to-end"
    remote = Home(tmp_path / "home", preset, {"BERTMILL_STORE": url, "PREFECT_API_URL": server_address(home)})
    remote.bertmill("run", str(preset))
    assert remote.digests() == home.digests()
    assert not (remote.folder / "store").exists()
