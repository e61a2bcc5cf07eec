"""Fingerprints are the same everywhere and for ever; references and names that could leave the store are refused."""

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import CorpusConfig, Source, VocabularyConfig
from pipeline.errors import ConfigError, UnknownReference
from pipeline.store import Artifact, Input, Recipe
from pipeline.store.artifact import FileEntry, canonical_json, fingerprint, parsed_reference, tree_digest
from tests.artifacts import recipe

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcé河"), inner, max_size=4),
    max_leaves=8,
)


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "河水 é"}) == '{"a":"河水 é","b":[1,2.5,null]}'.encode()


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text("abcé河"), PLAIN, max_size=6))
def test_the_order_of_keys_does_not_count(value: dict[str, Any]) -> None:
    assert fingerprint(dict(reversed(value.items()))) == fingerprint(value)


def test_what_has_no_canonical_spelling_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"share": float("nan")})


def test_a_recipes_fingerprint_is_the_sha256_of_what_decides_its_bytes() -> None:
    parent = Artifact("corpus", "wiki", "0123456789ab", "d" * 64, "e" * 64)
    made = Recipe(
        "vocabulary",
        VocabularyConfig(name="small", size=100),
        3,
        parents=(parent,),
        inputs=(Input("mine/a.txt", 7, "f" * 64),),
        extra=(("segmenter", "1.2"),),
    )
    spelled = (
        '{"config":{"size":100},"extra":[["segmenter","1.2"]],"inputs":[["mine/a.txt",7,"' + "f" * 64 + '"]],'
        '"kind":"vocabulary","parents":["' + "d" * 64 + '"],"schema":3}'
    )
    assert made.fingerprint == hashlib.sha256(spelled.encode()).hexdigest()
    assert made.fingerprint == "d62d8049a1cac182455fd2e280fe1422075cd9a2cdf0e256af878615c6354837"


def test_names_and_defaults_stay_out_of_the_fingerprint() -> None:
    spelled_out = Recipe("vocabulary", VocabularyConfig(name="other", size=16, lowercase=True, min_frequency=2), 1)
    assert spelled_out.fingerprint == recipe(0, "small").fingerprint


def test_a_parent_counts_by_its_bytes_and_not_by_its_name() -> None:
    parent = Artifact("corpus", "wiki", "0123456789ab", "d" * 64, "e" * 64)
    renamed = Artifact("corpus", "copy", "0123456789ab-2", "d" * 64, "0" * 64)
    other = Artifact("corpus", "wiki", "0123456789ab", "c" * 64, "e" * 64)
    assert recipe(parents=(renamed,)).fingerprint == recipe(parents=(parent,)).fingerprint
    assert recipe(parents=(other,)).fingerprint != recipe(parents=(parent,)).fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        Recipe("corpus", VocabularyConfig(name="small", size=16), 1),
        Recipe("vocabulary", VocabularyConfig(name="small", size=16), 2),
        Recipe("vocabulary", VocabularyConfig(name="small", size=16, lowercase=False), 1),
        recipe(inputs=(Input("a", 1, "f" * 64),)),
        recipe(extra=(("a", "b"),)),
    ],
    ids=["kind", "schema", "config", "inputs", "extra"],
)
def test_whatever_decides_the_bytes_counts(changed: Recipe) -> None:
    assert changed.fingerprint != recipe().fingerprint


def test_a_sources_keywords_count_and_its_path_does_not() -> None:
    def made(**keys: str) -> str:
        source = Source(**{"path": "a.jsonl", "format": "jsonl", "name": "mine", "licence": "own"} | keys)
        return Recipe("corpus", CorpusConfig(name="c", sources=(source,)), 1).fingerprint

    assert made(path="b.jsonl") == made()
    assert made(group="author") != made()


def test_the_digest_of_a_tree_is_one_for_any_order_and_counts_paths_and_bytes() -> None:
    files = [FileEntry(path="a", size=1, sha256="a" * 64, rows=3), FileEntry(path="b", size=2, sha256="b" * 64)]
    assert tree_digest(files[::-1]) == tree_digest(files)
    assert tree_digest([files[0].model_copy(update={"path": "c"}), files[1]]) != tree_digest(files)
    assert tree_digest([files[0].model_copy(update={"sha256": "c" * 64}), files[1]]) != tree_digest(files)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("corpus/wiki-en@latest", ("corpus", "wiki-en", "latest")),
        ("corpus/wiki-en", ("corpus", "wiki-en", "latest")),
        ("dataset/a.b_c@0123456789ab-2", ("dataset", "a.b_c", "0123456789ab-2")),
    ],
)
def test_a_reference_reads_kind_name_version(text: str, parsed: tuple[str, str, str]) -> None:
    assert parsed_reference(text) == parsed


@pytest.mark.parametrize(
    "text", ["wiki", "corpora/wiki", "corpus/Wiki", "corpus/../../etc", "corpus/..@1", "corpus/a/b@1", "corpus/@1", ""]
)
def test_what_is_no_reference_is_told_how_one_reads(text: str) -> None:
    with pytest.raises(UnknownReference, match="It reads kind/name@version"):
        parsed_reference(text)


@pytest.mark.parametrize("version", ["..", ".hidden", "A", "a b"])
def test_a_version_that_could_leave_its_folder_is_refused(version: str) -> None:
    with pytest.raises(UnknownReference, match="neither a version nor an alias"):
        parsed_reference(f"corpus/wiki@{version}")


@pytest.mark.parametrize("name", ["", "..", "a/b", "../a", "A", "a b", "-a", "a" * 64, "a\n"])
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="must be 1 to 63 of"):
        _ = recipe(name=name).name
