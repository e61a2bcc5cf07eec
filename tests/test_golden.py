"""A stage's bytes and defaults don't change unless its schema number does.

Found artifacts are never recomputed, so a silent change would mix old bytes with new. After a change that is meant,
raise the stage's SCHEMA and record anew: `python tests/test_golden.py`.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import (
    BoilerplateLines,
    CorpusConfig,
    DatasetConfig,
    Deduplication,
    EvaluationConfig,
    NearDuplicates,
    Plug,
    PretrainingConfig,
    Source,
    Table,
    VocabularyConfig,
)
from pipeline.corpus import ingest
from pipeline.dataset import build as dataset
from pipeline.evaluation import evaluate
from pipeline.preset import load_preset
from pipeline.pretraining import pretrain
from pipeline.settings import Settings
from pipeline.store import open_store
from pipeline.store.artifact import fingerprint
from pipeline.vocabulary import build as vocabulary

GOLDEN = Path(__file__).with_name("golden.json")
CONFIGS: dict[str, type[Table]] = {
    "corpus": CorpusConfig,
    "vocabulary": VocabularyConfig,
    "dataset": DatasetConfig,
    "pretraining": PretrainingConfig,
    "evaluation": EvaluationConfig,
}


def small_text(folder: Path) -> Path:
    """Sixty short documents made by rule, with accents and Chinese among them."""
    words = [
        "the",
        "river",
        "ran",
        "past",
        "a",
        "mill",
        "where",
        "Chloë",
        "ground",
        "flour",
        "all",
        "winter",
        "and",
        "河水",
        "流過",
        "磨坊",
        "sang",
        "to",
        "her",
        "brother",
    ]
    documents = [
        "\n".join(
            " ".join(words[(d * 7 + s * 3 + w * (d % 5 + 1)) % len(words)] for w in range(4 + (d + s) % 9)) + "."
            for s in range(3 + d % 6)
        )
        for d in range(60)
    ]
    path = folder / "small.txt"
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return path


def recorded(folder: Path) -> dict[str, dict[str, Any]]:
    """What the stages make now: schema number, digest of the defaults, digest of the bytes where no float decides."""
    store = open_store(Settings.from_environment({"BERTMILL_HOME": str(folder / "home")}))
    source = Source(path=str(small_text(folder)), format="text", name="small", licence="CC0-1.0")
    corpus = ingest.ingest_corpus(CorpusConfig(name="golden", sources=(source,), heldout_share=0.2), store=store)
    cleaned = ingest.ingest_corpus(every_filter(), store=store)
    words = vocabulary.build_vocabulary(VocabularyConfig(name="golden", size=120), corpus, store=store)
    samples = dataset.build_dataset(DatasetConfig(name="golden", max_seq_length=32), corpus, words, store=store)
    schemas = {
        "corpus": ingest.SCHEMA,
        "vocabulary": vocabulary.SCHEMA,
        "dataset": dataset.SCHEMA,
        "pretraining": pretrain.SCHEMA,
        "evaluation": evaluate.SCHEMA,
    }
    digests = {
        "corpus": fingerprint([corpus.digest, cleaned.digest]),
        "vocabulary": words.digest,
        "dataset": samples.digest,
    }
    return {
        stage: {"schema": schemas[stage], "defaults": defaults(CONFIGS[stage]), "bytes": digests.get(stage)}
        for stage in CONFIGS
    }


def every_filter() -> CorpusConfig:
    """The English sample through every filter and every kind of deduplication."""
    masks = Plug(name="mask_identifiers", patterns={"YEAR": "1[789][0-9][0-9]"})
    others = (Plug(name="length", max_characters=60_000), Plug(name="canary", strings=["Gold Standard"]))
    return CorpusConfig(
        name="cleaned",
        sources=load_preset("tiny").corpus.sources,
        filters=(*load_preset("base_en").corpus.filters, Plug(name="boilerplate_lines"), *others, masks),
        deduplication=Deduplication(near=NearDuplicates(), lines=BoilerplateLines(copies=1)),
        heldout_share=0.2,
    )


def defaults(config: type[Table]) -> str:
    fields = {name: field for name, field in config.model_fields.items() if not field.is_required()}
    return fingerprint({name: repr(field.get_default()) for name, field in fields.items()})


@pytest.mark.parametrize("stage", CONFIGS)
def test_a_stages_bytes_and_defaults_change_only_with_its_schema_number(
    stage: str, tmp_path_factory: pytest.TempPathFactory, now: dict[str, dict[str, Any]]
) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    if now[stage]["schema"] == golden[stage]["schema"]:
        assert now[stage] == golden[stage], f"{stage} changed: raise its SCHEMA, then run python tests/test_golden.py"
    else:
        pytest.fail(f"{stage} has a new schema number: record it with python tests/test_golden.py")


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return recorded(tmp_path_factory.mktemp("golden"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(json.dumps(recorded(Path(folder)), indent=2) + "\n", encoding="utf-8")
