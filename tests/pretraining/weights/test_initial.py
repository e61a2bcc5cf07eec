"""Continued pretraining: a training starts as what its parent ended as, and lineage knows the parent."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from pipeline.config import BaseVocabulary, EvaluationConfig, PretrainingConfig, VocabularyConfig
from pipeline.dataset.batches import Batch, packed, rows_batch
from pipeline.dataset.samples import Samples
from pipeline.dataset.steps import Steps
from pipeline.errors import ConfigError, InputError, UnknownReference
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.finetune import padded
from pipeline.pretraining.job import pretraining_recipe
from pipeline.pretraining.model.bert import BertForPreTraining, TensorBatch
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.watching.seen import batch_texts
from pipeline.pretraining.weights.initial import initial_record, mean_rows, sources_of, start_from, started_from
from pipeline.store import Artifact, Store
from pipeline.store.lineage import as_tree, lineage_of
from pipeline.vocabulary.build import build_vocabulary
from pipeline.vocabulary.tokenizer import load_ids, load_tokenizer
from tests.bert_folders import LAYOUTS, SHAPE, foreign, write_folder, write_weights
from tests.small import Small

CPU = torch.device("cpu")
Training = Any


@pytest.fixture(scope="module")
def entries(small: Small) -> list[str]:
    """The small vocabulary's, in the order of their ids."""
    return small.store.file(small.vocabulary, "vocab.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def batch(small: Small) -> Batch:
    return rows_batch(Samples(small.store, small.dataset, "heldout"), np.arange(20))


def plain(**changes: Any) -> PretrainingConfig:
    """A preset that leaves the architecture to the parent."""
    return PretrainingConfig(name="mine", **{"hidden_dropout_prob": 0.0} | changes)


def started(
    folder: Path, small: Small, vocabulary: Artifact | None = None, **changes: Any
) -> tuple[BertForPreTraining, Artifact]:
    """A model as a training that names that folder begins with."""
    config, parent = started_from(plain(init=str(folder), **changes), small.store)
    assert parent is not None
    vocabulary = vocabulary or small.vocabulary
    model = BertForPreTraining(config, len(load_ids(small.store, vocabulary)))
    start_from(model, config, parent, vocabulary, small.store)
    return model.eval(), parent


@torch.no_grad()
def losses_of(theirs: transformers.BertForPreTraining, batch: Batch) -> tuple[float, float]:
    """Mean masked-LM and next-sentence loss, as transformers computes them on padded samples."""
    ids, mask = padded(split(batch, batch.input_ids))
    types, _ = padded(split(batch, batch.token_type_ids))
    out = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types)
    logits = out.prediction_logits[mask.bool()][torch.from_numpy(batch.masked_positions)]
    masked = cross_entropy(logits, torch.from_numpy(batch.masked_lm_labels))
    return float(masked), float(cross_entropy(out.seq_relationship_logits, torch.from_numpy(batch.next_sentence_label)))


def split(batch: Batch, values: np.ndarray) -> list[torch.Tensor]:
    return list(torch.from_numpy(values).split(batch.lengths.tolist()))


@torch.no_grad()
def own_losses(model: BertForPreTraining, batch: Batch) -> tuple[float, float]:
    losses = model(TensorBatch.of(batch, CPU))
    return float(losses.masked_lm) / batch.predictions, float(losses.next_sentence) / batch.sequences


@pytest.mark.parametrize("name", LAYOUTS)
def test_before_its_first_step_a_training_has_the_parents_loss_whatever_the_folders_layout(
    name: str, small: Small, entries: list[str], batch: Batch, tmp_path: Path
) -> None:
    layout = LAYOUTS[name]
    theirs = foreign(len(entries))
    ours, parent = started(write_folder(tmp_path / name, layout, theirs, entries), small)
    manifest = small.store.manifest(parent)
    assert parent.name == name.lower()
    assert tuple(manifest.totals["lacking"]) == layout.lacking
    masked, sentence = losses_of(theirs, batch)
    own_masked, own_sentence = own_losses(ours, batch)
    if not layout.lacking:
        assert own_sentence == pytest.approx(sentence, abs=1e-5)
    if "masked-LM bias" not in layout.lacking:
        assert own_masked == pytest.approx(masked, abs=1e-5)
    ids, mask = padded(split(batch, batch.input_ids))
    types, _ = padded(split(batch, batch.token_type_ids))
    with torch.no_grad():
        expected = theirs.bert(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        torch.testing.assert_close(ours.encode(TensorBatch.of(batch, CPU)), expected[mask.bool()], atol=1e-5, rtol=1e-5)


def test_heads_that_the_parent_lacks_are_drawn_from_the_seed_and_named(
    small: Small, entries: list[str], tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "encoder", LAYOUTS["encoder-alone"], foreign(len(entries)), entries)
    (one, parent), (same, _), (other, _) = (started(folder, small, seed=seed) for seed in (1, 1, 2))
    for name in ("transform.weight", "next_sentence.weight"):
        assert torch.equal(one.state_dict()[name], same.state_dict()[name])
        assert not torch.equal(one.state_dict()[name], other.state_dict()[name])
    assert torch.equal(one.pooler.weight, other.pooler.weight), "that it has"
    heads = ["masked-LM transform", "masked-LM bias", "next-sentence"]
    assert initial_record(parent, small.vocabulary, small.store)["new_heads"] == heads


def test_what_a_preset_leaves_out_is_the_parents_and_what_it_states_must_agree(
    small: Small, entries: list[str], tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "bert", LAYOUTS["Bio_ClinicalBERT"], foreign(len(entries)), entries)
    config, parent = started_from(PretrainingConfig(name="mine", init=str(folder)), small.store)
    assert parent is not None
    own = {key: getattr(config, key) for key in SHAPE if key in PretrainingConfig.model_fields}
    assert own == {key: SHAPE[key] for key in own} | {"initializer_range": 0.02}
    assert config.init == parent.reference
    assert started_from(config, small.store) == (config, parent), "what is resolved stays as it is"
    stated, _ = started_from(plain(init=str(folder), hidden_size=32), small.store)
    assert stated.hidden_dropout_prob == 0.0, "how it is trained may differ"
    with pytest.raises(ConfigError) as caught:
        started_from(plain(init=str(folder), num_hidden_layers=12), small.store)
    assert f"pretraining.num_hidden_layers is 12, but {parent}, which init names, has 2" in str(caught.value)
    with pytest.raises(ConfigError, match=r"has 48\. Leave it out.* give dataset.max_seq_length of at most 48: it has"):
        started_from(plain(init=str(folder), max_position_embeddings=512), small.store)


def test_a_folder_is_imported_once_wherever_it_lies_and_decides_the_trainings_fingerprint(
    small: Small, entries: list[str], tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "once", LAYOUTS["bert-base-chinese"], foreign(len(entries)), entries)
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "once")
    other = write_folder(tmp_path / "other", LAYOUTS["bert-base-chinese"], foreign(len(entries), seed=2), entries)
    recipes = [pretraining_recipe(plain(init=str(each)), small.dataset, small.store) for each in (folder, moved, other)]
    assert len(small.store.versions("pretraining", "once")) == 1
    assert recipes[0].fingerprint == recipes[1].fingerprint != recipes[2].fingerprint
    (parent,) = (each for each in recipes[0].parents if each.kind == "pretraining")
    manifest = small.store.manifest(parent)
    assert {each["name"] for each in manifest.inputs} == {
        *("config.json", "pytorch_model.bin", "vocab.txt", "tokenizer_config.json")
    }
    safe = write_folder(tmp_path / "safe", LAYOUTS["decoder-kept"], foreign(len(entries)), entries)
    (safe / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    again = pretraining_recipe(plain(init=str(safe)), small.dataset, small.store)
    assert again.fingerprint == recipes[0].fingerprint, "the same weights from another file, under other names"


def test_an_imported_folder_is_what_transformers_and_an_evaluation_take_a_pretraining_for(
    small: Small, entries: list[str], batch: Batch, tmp_path: Path
) -> None:
    theirs = foreign(len(entries) + 10)  # rows beyond the vocabulary, as some pad it
    folder = write_folder(tmp_path / "padded", LAYOUTS["bert-base-chinese"], theirs, entries)
    _, parent = started(folder, small)
    assert small.store.manifest(parent).totals["rows_without_entry"] == 10
    small.store.export(parent, tmp_path / "exported")
    again = transformers.BertForPreTraining.from_pretrained(tmp_path / "exported").eval()
    assert again.config.vocab_size == len(entries)
    assert again.config.attention_probs_dropout_prob == 0.1
    cut = foreign(len(entries) + 10)
    cut.resize_token_embeddings(len(entries))
    assert losses_of(again, batch) == pytest.approx(losses_of(cut.eval(), batch), abs=1e-5)
    config = EvaluationConfig(name="parent", heldout_samples=20)
    made = evaluate(config, parent, small.dataset, small.corpus, store=small.store)
    assert small.store.manifest(made).metrics["heldout"]["samples"] == 20


def test_an_old_folder_without_a_tokenizers_config_is_cased_where_its_vocabulary_is(
    small: Small, entries: list[str], tmp_path: Path
) -> None:
    found = {}
    for name, words in (("uncased", entries), ("cased", [*entries, "Mill"])):
        folder = write_folder(tmp_path / name, LAYOUTS["Bio_ClinicalBERT"], foreign(len(words)), words)
        _, parent = started(folder, small)
        text = small.store.file(parent, "model/tokenizer_config.json").read_text(encoding="utf-8")
        found[name] = json.loads(text)["do_lower_case"]
    assert found == {"uncased": True, "cased": False}


def test_a_new_entry_has_the_mean_of_its_old_pieces_rows_and_the_others_keep_theirs(
    small: Small, entries: list[str], tmp_path: Path
) -> None:
    theirs = foreign(len(entries))
    folder = write_folder(tmp_path / "bert", LAYOUTS["decoder-kept"], theirs, entries)
    extended = tmp_path / "extended.txt"  # the old ones at other ids
    new = ["millriver", "[unused7]", "ж"]
    extended.write_text("\n".join([*entries[:5], *new, *reversed(entries[5:])]) + "\n", encoding="utf-8")
    config = VocabularyConfig(name="extended", base=BaseVocabulary(vocabulary=str(extended)))
    vocabulary = build_vocabulary(config, small.corpus, store=small.store)
    ours, parent = started(folder, small, vocabulary)
    ids, old = load_ids(small.store, vocabulary), load_ids(small.store, small.vocabulary)
    tokenizer = load_tokenizer(small.store, small.vocabulary)
    pieces = tokenizer.encode("millriver", add_special_tokens=False).ids
    assert len(pieces) > 1
    state, named = ours.state_dict(), theirs.state_dict()
    for ours_, theirs_ in (
        (state["word_embeddings.weight"], named["bert.embeddings.word_embeddings.weight"]),
        (state["decoder_bias"], named["cls.predictions.bias"]),
    ):
        for entry in entries:
            assert torch.equal(ours_[ids[entry]], theirs_[old[entry]])
        torch.testing.assert_close(ours_[ids["millriver"]], theirs_[pieces].mean(0))
        for entry in ("[unused7]", "ж"):
            torch.testing.assert_close(ours_[ids[entry]], theirs_[5:].mean(0))
        assert ours_[len(ids) :].abs().sum() == 0, "padding"
    assert initial_record(parent, vocabulary, small.store) == {
        "parent": parent.reference,
        "kept_entries": len(entries),
        "averaged_entries": 1,
        "entries_without_pieces": 2,
        "dropped_entries": 0,
        "new_heads": [],
    }


@pytest.mark.parametrize(
    ("entry", "pieces"),
    [
        ("mill", ["mill"]),
        ("millrace", ["mill", "##race"]),
        ("##millrace", ["mill", "##race"]),
        ("##racerace", ["##race", "##race"]),
        ("Mill", ["mill"]),
        ("covid-19", ["c", "##o", "##v", "##i", "##d", "-", "19"]),
        ("mill ж", ["mill"]),
        ("ж", []),
        ("[unused3]", []),
    ],
)
def test_an_entry_is_parted_as_the_parent_would_part_it(entry: str, pieces: list[str]) -> None:
    known = numbered("[UNK]", "mill", "##race", "c", "##o", "##v", "##i", "##d", "-", "19")
    assert sources_of({entry: 0}, known) == [tuple(known[piece] for piece in pieces)]


def numbered(*entries: str) -> dict[str, int]:
    return {entry: number for number, entry in enumerate(entries)}


@given(st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=8))
def test_rows_are_the_means_of_theirs_and_a_mean_of_one_is_that_row(sources: list[list[int]]) -> None:
    table = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    rows = mean_rows(table, [tuple(each) for each in sources], [2, 3])
    for row, each in zip(rows, sources, strict=True):
        torch.testing.assert_close(row, table[each or [2, 3]].mean(0))
        if len(each) == 1:
            assert torch.equal(row, table[each[0]])


REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "roberta": ({"model_type": "roberta"}, "model_type 'roberta', where this encoder has 'bert'"),
    "activation": ({"hidden_act": "relu"}, "hidden_act 'relu', where this encoder has 'gelu'"),
    "positions": ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
    "decoder": ({"is_decoder": True}, "is_decoder True"),
    "types": ({"type_vocab_size": 1}, "type_vocab_size 1"),
    "heads": ({"num_attention_heads": 5}, "can't be split over num_attention_heads 5"),
    "no shape": ({"hidden_size": None}, "has no hidden_size: it isn't the config.json of a BERT"),
    "fewer layers": ({"num_hidden_layers": 1}, "has bert.encoder.layer.1.attention.output.LayerNorm.bias"),
    "more layers": ({"num_hidden_layers": 3}, "lacks bert.encoder.layer.2.attention.output.LayerNorm.bias"),
    "width": ({"intermediate_size": 128}, "has the shape [64], and by config.json [128]"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_folder_of_another_model_is_refused_in_a_sentence(
    what: str, small: Small, entries: list[str], tmp_path: Path
) -> None:
    changes, sentence = REFUSED[what]
    folder = write_folder(tmp_path / "refused", LAYOUTS["encoder-alone"], foreign(len(entries)), entries, **changes)
    with pytest.raises(InputError) as caught:
        started(folder, small)
    assert sentence in str(caught.value)
    assert not small.store.listing("pretraining", "refused")


def test_weights_that_are_damaged_or_untied_are_refused_with_the_tensor(
    small: Small, entries: list[str], tmp_path: Path
) -> None:
    theirs = foreign(len(entries))
    named = {name: each.clone() for name, each in theirs.state_dict().items()}
    decoder, bias = "cls.predictions.decoder.weight", "cls.seq_relationship.bias"
    broken = {
        f"{decoder} differs from": named | {decoder: named[decoder] + 1},
        f"lacks {bias}": {name: each for name, each in named.items() if name != bias},
        f"{bias} has numbers that aren't finite": named | {bias: torch.tensor([0.0, float("nan")])},
        "can't be read as tensors and nothing else": {"model": theirs},
        "holds something else than tensors": named | {"epoch": 3},
    }
    for number, (sentence, each) in enumerate(broken.items()):
        folder = write_folder(tmp_path / f"broken{number}", LAYOUTS["bert-base-chinese"], theirs, entries)
        write_weights(folder / "pytorch_model.bin", each)
        with pytest.raises(InputError) as caught:
            started(folder, small)
        assert sentence in str(caught.value)
        assert str(folder) in str(caught.value)


def test_a_folder_that_is_not_there_or_not_whole_is_said_with_what_to_give(
    small: Small, entries: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="pretraining.init is .*nowhere, where no folder is. Give a Hugging Face"):
        started(tmp_path / "nowhere", small)
    for name, sentence in (
        ("model.safetensors", "has neither model.safetensors nor pyt"),
        ("vocab.txt", "no vocab.txt"),
    ):
        folder = write_folder(tmp_path / name, LAYOUTS["encoder-alone"], foreign(len(entries)), entries)
        (folder / name).unlink()
        with pytest.raises(InputError, match=sentence):
            started(folder, small)


def test_samples_longer_than_the_parents_positions_are_refused_before_any_rank_starts(
    small: Small, entries: list[str], fresh: Store, tmp_path: Path
) -> None:
    short = foreign(len(entries), max_position_embeddings=32)
    folder = write_folder(tmp_path / "short", LAYOUTS["encoder-alone"], short, entries)
    with pytest.raises(ConfigError, match=r"up to 48 tokens, over .* 32, all that pretraining/short@\w+ has. Take"):
        pretrain(plain(init=str(folder)), small.dataset, store=fresh)
    phases = [{"share": 0.5, "max_seq_length": length} for length in (32, 40)]
    with pytest.raises(ConfigError, match="phase 2 has samples of up to 40 tokens, over .* 32, all that pretraining/s"):
        pretrain(plain(init=str(folder), phases=phases), small.dataset, store=fresh)
    cut = plain(init=str(folder), phases=[{"share": 1, "max_seq_length": 32}])
    assert pretraining_recipe(cut, small.dataset, fresh).parents[0] == small.dataset


def test_a_batch_of_an_imported_model_is_asked_for_in_vain_and_says_why(
    small: Small, entries: list[str], tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "asked", LAYOUTS["encoder-alone"], foreign(len(entries)), entries)
    _, parent = started(folder, small)
    with pytest.raises(UnknownReference, match="pretraining/asked@.* was made from no dataset"):
        list(batch_texts(parent, 0, 1, small.store))


# One training on two ranks


@pytest.fixture(scope="module")
def parent(training: Training) -> Artifact:
    """A training that other tests have asked for, too."""
    made: Artifact = training(deepspeed="zero1", train_micro_batch_size_per_gpu=4)
    return made


@pytest.fixture(scope="module")
def continued(training: Training, parent: Artifact) -> Artifact:
    made: Artifact = training(init=parent.reference, snapshots=(0.5,))
    return made


def curve_of(small: Small, artifact: Artifact) -> list[dict[str, Any]]:
    lines = small.store.file(artifact, "curve.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_first_steps_loss_is_transformers_loss_of_the_parent_on_that_batch(
    continued: Artifact, parent: Artifact, small: Small, tiny: PretrainingConfig, tmp_path: Path
) -> None:
    small.store.export(parent, tmp_path / "parent")
    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path / "parent").eval()
    samples = Samples(small.store, small.dataset)
    chosen = Steps([(samples, 1.0)], train_batch_size=tiny.train_batch_size, seed=tiny.seed).step(0)
    (batch,) = packed([samples], chosen, [len(chosen.rows)])
    first = curve_of(small, continued)[0]
    assert (first["masked_lm_loss"], first["next_sentence_loss"]) == pytest.approx(losses_of(theirs, batch), abs=1e-5)
    assert first["masked_lm_loss"] < curve_of(small, parent)[0]["masked_lm_loss"] - 0.1
    assert first["learning_rate"] == curve_of(small, parent)[0]["learning_rate"], "the warmup is done again"


def test_lineage_and_manifest_name_the_parent_by_which_the_training_is_found_again(
    continued: Artifact, parent: Artifact, small: Small, tiny: PretrainingConfig
) -> None:
    manifest = small.store.manifest(continued)
    config = tiny.model_copy(update={"init": parent.reference})
    assert pretraining_recipe(config, small.dataset, small.store).fingerprint == manifest.fingerprint
    assert pretraining_recipe(tiny, small.dataset, small.store).fingerprint != manifest.fingerprint
    assert [each.reference for each in manifest.parents] == [small.dataset.reference, parent.reference]
    assert manifest.config["init"] == parent.reference
    assert manifest.totals["init"]["parent"] == parent.reference
    assert manifest.totals["init"]["averaged_entries"] == manifest.totals["init"]["dropped_entries"] == 0
    assert parent.reference in as_tree(lineage_of(small.store, continued))
    assert continued.reference in as_tree(lineage_of(small.store, parent))


def test_a_snapshot_of_a_continued_training_says_what_was_new_as_the_whole_does(
    continued: Artifact, small: Small
) -> None:
    manifest = small.store.manifest(continued)
    snapshot = small.store.manifest(small.store.resolve(f"pretraining/tiny@{manifest.fingerprint[:12]}:step=6"))
    assert snapshot.totals["steps"] == 6
    assert snapshot.totals["init"] == manifest.totals["init"]


def test_a_continued_encoder_is_evaluated_as_any_and_predicts_held_out_text_better_than_its_parent(
    continued: Artifact, parent: Artifact, small: Small
) -> None:
    config = EvaluationConfig(name="continued", heldout_samples=200)
    scores = [
        small.store.manifest(evaluate(config, each, small.dataset, small.corpus, store=small.store)).metrics["heldout"]
        for each in (parent, continued)
    ]
    assert scores[1]["masked_lm_loss"] < scores[0]["masked_lm_loss"]
