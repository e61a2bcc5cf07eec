"""Presets, overrides and settings: what is wrong is said in one sentence, before anything runs."""

from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline.config import BaseVocabulary, Plug, bound
from pipeline.errors import ConfigError
from pipeline.preset import load_preset, shipped_presets
from pipeline.settings import Settings


@pytest.mark.parametrize("name", shipped_presets())
def test_each_shipped_preset_is_valid(name: str) -> None:
    assert load_preset(name).description


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_an_override_is_typed_as_toml_and_a_bare_word_is_text() -> None:
    preset = load_preset("tiny", ["pretraining.max_steps=1_000", "pretraining.precision=bf16"])
    assert (preset.pretraining.max_steps, preset.pretraining.precision) == (1000, "bf16")


def test_a_name_renames_all_five_artifacts_and_no_fingerprint() -> None:
    preset, renamed = load_preset("tiny"), load_preset("tiny", name="mine")
    assert {table.name for table in (renamed.corpus, renamed.vocabulary, renamed.dataset)} == {"mine"}
    assert renamed.corpus.identity() == preset.corpus.identity()


def test_a_key_of_a_table_within_a_table_can_be_set() -> None:
    preset = load_preset("tiny", ["dataset.gates.max_unknown_share=0.5", "dataset.masker.name=ngram"])
    assert (preset.dataset.gates.max_unknown_share, preset.dataset.masker.name) == (0.5, "ngram")
    with pytest.raises(ConfigError, match="name is a value and no table"):
        load_preset("tiny", ["dataset.name.first=1"])


def test_a_segmenters_dictionary_is_relative_to_its_preset_and_what_it_is_called_counts_for_nothing(
    tmp_path: Path,
) -> None:
    text = 'extends = "tiny_zh"\n[dataset]\nsegmenter = { dictionary = "words.txt" }\n'
    dataset = load_preset(write(tmp_path / "mine.toml", text)).dataset
    assert dataset.segmenter is not None
    assert dataset.segmenter.dictionary == str(tmp_path / "words.txt")
    assert dataset.identity() == load_preset("tiny_zh").dataset.identity()


def test_an_extending_preset_states_only_its_differences(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.toml", 'extends = "tiny"\n[pretraining]\nmax_steps = 1000\n')
    mine, tiny = load_preset(path), load_preset("tiny")
    assert mine.pretraining == tiny.pretraining.model_copy(update={"max_steps": 1000})
    assert mine.dataset == tiny.dataset


def test_a_sources_relative_path_is_relative_to_its_preset(tmp_path: Path) -> None:
    source = '{path = "texts/*.txt", format = "text", name = "mine", licence = "own"}'
    path = write(tmp_path / "mine.toml", f'extends = "tiny"\n[corpus]\nsources = [{source}]\n')
    assert load_preset(path).corpus.sources[0].path == str(tmp_path / "texts/*.txt")


def test_an_existing_vocabularys_relative_path_is_relative_to_its_preset_and_a_reference_is_left_alone(
    tmp_path: Path,
) -> None:
    given = ["bert/vocab.txt", "vocabulary/vocab.txt", "/bert", "~/bert", "vocabulary/mine@latest"]
    compare = ", ".join(f'{{vocabulary = "{each}"}}' for each in given)
    text = f'extends = "tiny"\n[vocabulary]\nbase = {{vocabulary = "bert"}}\ncompare = [{compare}]\n'
    preset = load_preset(write(tmp_path / "mine.toml", text))
    assert preset.vocabulary.base == BaseVocabulary(vocabulary=str(tmp_path / "bert"))
    anchored = [str(tmp_path / "bert/vocab.txt"), str(tmp_path / "vocabulary/vocab.txt")]
    assert [each.vocabulary for each in preset.vocabulary.compare] == [*anchored, *given[2:]]
    other = f'extends = "tiny"\n[vocabulary]\nbase = {{vocabulary = "{given[-1]}"}}\n'
    base = load_preset(write(tmp_path / "other.toml", other)).vocabulary.base
    assert base == BaseVocabulary(vocabulary=given[-1])


def test_where_an_existing_vocabulary_lies_does_not_count_and_how_it_is_read_does() -> None:
    def identity(*overrides: str) -> dict[str, Any]:
        return load_preset("tiny", overrides).vocabulary.identity()

    one, other = (identity(f'vocabulary.base={{vocabulary="{path}"}}') for path in ("/one", "/other"))
    assert one == other != identity()
    assert identity('vocabulary.base={vocabulary="/one", lowercase=false}') != one
    assert identity('vocabulary.base={vocabulary="/one", new_words="append"}') != one


def test_what_training_starts_from_is_relative_to_its_preset_and_a_reference_is_left_alone(tmp_path: Path) -> None:
    for given, anchored in (("bert", str(tmp_path / "bert")), ("pretraining/mine@latest", "pretraining/mine@latest")):
        text = f'extends = "tiny"\n[pretraining]\ninit = "{given}"\n'
        mine = load_preset(write(tmp_path / "mine.toml", text)).pretraining
        assert mine.init == anchored
        assert mine.identity() == load_preset("tiny").pretraining.identity(), "what it leads to counts, as a parent"


def test_with_a_parent_a_preset_may_state_a_part_of_the_architecture() -> None:
    with pytest.raises(ConfigError, match="can't be split over num_attention_heads"):
        load_preset("base_en", ["pretraining.hidden_size=1000"])
    load_preset("base_en", ["pretraining.hidden_size=1000", "pretraining.init=bert"])


def test_values_equal_to_the_default_do_not_count() -> None:
    tiny = load_preset("tiny")
    spelled_out = load_preset("tiny", [f"pretraining.adam_beta1={tiny.pretraining.adam_beta1}"])
    assert spelled_out.pretraining.identity() == tiny.pretraining.identity()


def test_where_it_runs_does_not_count() -> None:
    moved = load_preset("tiny", ["pretraining.deepspeed=zero3", "pretraining.checkpoint_every=7"])
    assert moved.pretraining.identity() == load_preset("tiny").pretraining.identity()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["pretraining.max_stepss=3"], "unknown key pretraining.max_stepss. Did you mean 'max_steps'?"),
        (["pretrainin.max_steps=3"], "unknown key pretrainin. Did you mean 'pretraining'?"),
        (["pretraining.max_steps=-3"], "pretraining.max_steps is -3: Input should be greater than or equal to 1"),
        (["pretraining.num_attention_heads=7"], "can't be split over num_attention_heads 7"),
        (["pretraining.max_tokens=9", "pretraining.max_steps=9"], "give one of max_steps and max_tokens, and not both"),
        (
            ["pretraining.phases=[{ share = 0.6 }, { share = 0.6 }]"],
            "the phases' shares add up to 1.2; they must make 1",
        ),
        (["pretraining.phases=[{ steps = 9 }]"], "steps add up to 9, where max_steps is 1100; set max_steps to 9, or"),
        (
            ["pretraining.phases=[{ share = 1 }, { steps = 9 }]"],
            "each of the phases must have a share, or each of them",
        ),
        (["pretraining.phases=[{ share = 1, steps = 9 }]"], "and none of them both"),
        (
            ["pretraining.phases=[{ steps = 9 }]", "pretraining.max_tokens=9"],
            "give each of the phases a share, not steps",
        ),
        (["pretraining.phases=[{ share = 1, max_seq_length = 256 }]"], "256, over max_position_embeddings 128; raise"),
        (["pretraining.phases=[{ share = 1, max_seq_length = 96 }]"], "have up to dataset.max_seq_length 64; raise"),
        (["dataset.max_seq_length=256"], "dataset.max_seq_length 256 is over pretraining.max_position_embeddings 128"),
        (["vocabulary.tokens=['mill ']"], "the token 'mill ' is empty or has a blank at an end; take it away"),
        (["vocabulary.tokens=['##ing']"], "the token '##ing' begins with ##"),
        (["vocabulary.tokens=['']"], "the token '' is empty or has a blank at an end"),
        (["vocabulary.tokens=['mill', 'river', 'mill']"], "the token 'mill' is given twice; take one away"),
        (['vocabulary.tokens=["a\\nb"]'], "the token 'a\\nb' has a line end or a tab in it"),
        (
            ["vocabulary.tokens=['mill']", 'vocabulary.base={vocabulary="bert"}'],
            'tokens are given, but base.new_words = "none" takes a vocabulary as it is',
        ),
        (["pretraining.learning_rate=inf"], "pretraining.learning_rate is inf: Input should be a finite number"),
        (["pretraining=3"], "not of the form table.key=value"),
        (["pretraining.seed.x=3"], "pretraining.seed"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_do(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_preset("tiny", overrides)
    assert sentence in str(error.value)


@pytest.mark.parametrize("name", ["base_en", "base_zh", "large_en"])
def test_the_shipped_models_are_trained_on_short_and_then_on_long_samples_as_published(name: str) -> None:
    preset = load_preset(name)
    phases = [
        (phase.share, phase.max_seq_length or preset.dataset.max_seq_length) for phase in preset.pretraining.phases
    ]
    assert phases == [(0.9, 128), (0.1, 512)]
    assert (preset.pretraining.steps, preset.pretraining.train_batch_size) == (1_000_000, 256)


@pytest.mark.parametrize("name", shipped_presets())
def test_a_shipped_preset_is_what_its_names_say_and_asks_for_the_floor_early(name: str) -> None:
    preset = load_preset(name)
    *_, length = preset.dataset.name.split("-")
    assert preset.dataset.max_seq_length == int(length)
    assert preset.pretraining.floor_step in (None, preset.pretraining.steps // 20)
    lengths = [phase.max_seq_length or preset.dataset.max_seq_length for phase in preset.pretraining.phases]
    assert not lengths or max(lengths) == preset.dataset.max_seq_length, "no sample is made to be cut in all phases"


@pytest.mark.parametrize("key", ["max_steps", "max_tokens"])
def test_a_budget_of_one_kind_takes_the_place_of_one_of_the_other_that_a_preset_extends(
    key: str, tmp_path: Path
) -> None:
    below = write(tmp_path / "below.toml", f'extends = "tiny"\n[pretraining]\n{key} = 7\n')
    above = write(tmp_path / "above.toml", 'extends = "below.toml"\n[pretraining]\nmax_tokens = 9\n')
    for tables in (load_preset(str(above)), load_preset(str(below), ["pretraining.max_tokens=9"])):
        assert (tables.pretraining.max_steps, tables.pretraining.max_tokens) == (None, 9)
    back = load_preset(str(above), ["pretraining.max_steps=5"]).pretraining
    assert (back.max_steps, back.max_tokens) == (5, None)


def test_where_a_phase_runs_does_not_count() -> None:
    phase = "pretraining.phases=[{{ share = 1, train_micro_batch_size_per_gpu = {} }}]"
    one, other = (load_preset("tiny", [phase.format(size)]).pretraining for size in (4, 8))
    assert one.identity() == other.identity() != load_preset("tiny").pretraining.identity()


def test_an_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="There is no preset 'tny'. Did you mean 'tiny'"):
        load_preset("tny")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("extends = 3", "extends is 3; give one preset's name or path"),
        ("[corpus\n", "is not valid TOML"),
        ('extends = "mine.toml"', "extends itself"),
        ('extends = "other.toml"', "There is no preset file"),
        ("", "lacks corpus; give it, or extend a preset that has it"),
    ],
)
def test_a_broken_preset_file_is_named_with_what_to_do(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_preset(write(tmp_path / "mine.toml", text))
    assert sentence in str(error.value)


def plug(text: str, *, share: float, kind: Literal["a", "b"] = "a") -> tuple[str, float, str]:
    return text, share, kind


def test_a_plug_binds_keywords_checked_against_the_annotations() -> None:
    assert bound(Plug(name="plug", share=1, kind="b"), {"plug": plug}, "filter")("x") == ("x", 1.0, "b")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Plug(name="plugg"), "There is no filter 'plugg'. Did you mean 'plug'?"),
        (Plug(name="plug", shar=1), "has no keyword 'shar'. Did you mean 'share'?"),
        (Plug(name="plug", share="x"), "share is 'x'"),
        (Plug(name="plug", share=1, kind="c"), "kind is 'c'"),
        (Plug(name="plug"), "needs the keyword 'share'"),
    ],
)
def test_a_wrong_plug_is_refused_before_any_work(given: Plug, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        bound(given, {"plug": plug}, "filter")
    assert sentence in str(error.value)


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    settings = Settings.from_environment({"BERTMILL_HOME": str(tmp_path), "BERTMILL_RANKS": "3", "PATH": "/bin"})
    assert settings.ranks == 3
    assert settings.store == (tmp_path / "store").as_uri()
    assert settings.cache == tmp_path / "cache"


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"BERTMILL_STOER": "x"}, "BERTMILL_STOER means nothing here. Did you mean 'BERTMILL_STORE'?"),
        ({"BERTMILL_RANKS": "none"}, "BERTMILL_RANKS is 'none'"),
        ({"BERTMILL_RANKS": "0"}, "BERTMILL_RANKS is '0': Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_named(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        Settings.from_environment(environment)
    assert sentence in str(error.value)
