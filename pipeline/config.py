"""What is computed, a table per stage, on one page. Where it runs is said elsewhere (settings.py).

A preset is a TOML file with one table per stage; it states only what differs from the defaults here, which are the
papers'. Its values make the artifact's fingerprint, except those marked `WHERE`: they say where to find or how to
split the work, and change no result.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, signature
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from pipeline.errors import ConfigError, nearest

INPUTS: Mapping[str, tuple[str, ...]] = {
    "corpus": (),
    "vocabulary": ("corpus",),
    "dataset": ("corpus", "vocabulary"),
    "pretraining": ("dataset",),
    "evaluation": ("pretraining", "dataset", "corpus"),
}
"""The stages in their order, and what each takes, in the order of its function's arguments."""
STAGES = tuple(INPUTS)


class _Where:
    """Marks a field that changes no result and so stays out of the fingerprint."""


WHERE = _Where()
Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Table(BaseModel):
    """A table of a preset: frozen, no unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    def identity(self) -> dict[str, Any]:
        """What of this table makes the fingerprint: values that differ from the default, without `WHERE` fields."""
        kept: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if WHERE in field.metadata or (not field.is_required() and value == field.get_default()):
                continue
            kept[name] = _identity(value)
        return kept | (self.model_extra or {})


def _identity(value: Any) -> Any:
    if isinstance(value, Table):
        return value.identity()
    if isinstance(value, tuple):
        return [_identity(item) for item in value]
    return value


class Plug(Table):
    """A function named in a preset, with its keywords: `{name = "gopher", min_words = 50}`."""

    model_config = ConfigDict(extra="allow")

    name: str
    """A key of the dict that the stage looks it up in."""

    @property
    def keywords(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Source(Table):
    """Where documents come from. Keywords beside these go to the reader of `format`."""

    model_config = ConfigDict(extra="allow")

    path: Annotated[str, WHERE]
    """A file or a glob, relative to the preset's folder, or `s3://BUCKET/KEY`, which may be a glob too. `hub:NAME` or
    `hub:NAME@REVISION` is a dataset of the Hugging Face hub, `sample:NAME` a corpus that comes with the package."""
    format: str
    """A key of `pipeline.corpus.sources.SOURCES`."""
    name: str
    """What the documents of this source are told apart by."""
    licence: str
    """Under which terms the text may be used; kept in the manifest."""
    origin: str = ""
    """Where the text was got from; kept in the manifest."""
    retrieved: str = ""
    """When, as YYYY-MM-DD; kept in the manifest."""
    weight: Annotated[float, Field(gt=0)] | None = None
    """Its share of the corpus' characters, relative to the other sources' weights: documents are left out, chosen by a
    hash of their id, until it holds. None: all of it stays."""
    max_documents: Annotated[int, Field(ge=1)] | None = None
    """The first ones stay, counted after cleaning and deduplication."""
    max_characters: Annotated[int, Field(ge=1)] | None = None
    """The first documents stay that together hold so many, counted after cleaning and deduplication."""

    def reading(self) -> dict[str, Any]:
        """What of it decides how a file is read and cleaned, and so which remembered part is the file's."""
        return {"name": self.name, "format": self.format} | self.keywords

    @property
    def keywords(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class NearDuplicates(Table):
    """Documents that share most of their shingles (MinHash, Broder 1997; banded, Leskovec et al. 2014, ch. 3)."""

    shingle_words: Annotated[int, Field(ge=1, le=32)] = 5
    """Words in a shingle, where a language parts its words by blanks."""
    shingle_characters: Annotated[int, Field(ge=1, le=64)] = 5
    """Characters in a shingle of Chinese, Japanese, Thai, …, where it doesn't."""
    bands: Annotated[int, Field(ge=1, le=256)] = 14
    """Two documents are near when one band agrees: with Jaccard similarity s, at the odds 1 - (1 - s^rows)^bands."""
    rows: Annotated[int, Field(ge=1, le=64)] = 8
    """Minima in a band. 14 bands of 8 (as FineWeb): half of the pairs at a similarity of .69, 92 % at .8."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Of the permutations."""


class BoilerplateLines(Table):
    """Lines that stand in document after document: headers, footers, notices."""

    copies: Annotated[int, Field(ge=1)] = 5
    """So many documents keep a line, the first ones; it is taken out of all later ones."""
    min_characters: Annotated[int, Field(ge=1)] = 10
    """Shorter lines are left alone."""


class Deduplication(Table):
    """What is kept once.

    Of equal documents the first stays: in the order of the sources, their files' names, their rows. So a file that
    comes later in that order never changes which of the earlier documents stay.
    """

    exact: bool = True
    """Documents that are equal but for case and blanks."""
    near: NearDuplicates | None = None
    """Documents that are nearly equal; None leaves them."""
    lines: BoilerplateLines | None = None
    """Lines that many documents share; None leaves them."""
    within: Literal["corpus", "group"] = "corpus"
    """Where a copy is looked for: everywhere, or among the documents of the same group (patient, site, author)."""


class CorpusConfig(Table):
    """Text in, clean documents out."""

    name: Annotated[str, WHERE]
    """The artifact's name in the store; presets with the same name share it."""
    sources: tuple[Source, ...] = ()
    """At least one, in the order in which documents are kept when two are equal."""
    lang: str = "en"
    """ISO 639-1 code of documents that don't name their own."""
    heldout_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of the groups (not the documents) that is never trained on."""
    documents_per_shard: Annotated[int, Field(ge=1)] = 20_000
    """Documents a shard holds; one shard is one unit of work downstream."""
    min_characters: Annotated[int, Field(ge=1)] = 1
    """Shorter documents are dropped, and counted."""
    filters: tuple[Plug, ...] = (Plug(name="normalise"),)
    """Keys of `pipeline.corpus.cleaning.FILTERS`, in the order in which a document passes them."""
    deduplication: Deduplication = Deduplication()
    decontaminate: tuple[Source, ...] = ()
    """Test sets of the evaluation's tasks: documents that share a long n-gram with one of them are dropped."""
    excluded: Annotated[str | None, WHERE] = None
    """A file of ids and groups of documents, one a line, that must not be in the corpus (erasure). What stands in it
    counts; a change reads all sources again, so that no part keeps their text."""
    max_bad_share: Share = 0.01
    """Share of rows that may be unreadable before the stage fails; each is counted and the first ones are shown."""
    max_foreign_share: Share = 0.01
    """Share of documents that the filter `language` may drop before the stage fails: more is the sign of a profile that
    doesn't fit the text. 1 for text of the web."""
    restricted: bool = False
    """Text of this corpus leaves no stage: cards, logs and reports show counts only."""


class ExistingVocabulary(Table):
    """A vocabulary that is there already: of the store, or a file from elsewhere."""

    vocabulary: Annotated[str, WHERE]
    """A reference, `vocabulary/NAME@VERSION`, or the path of a `vocab.txt`, relative to the preset's folder. What it
    leads to counts."""
    lowercase: bool | None = None
    """Of a file: whether it is for lowercased text. None: as the vocabulary that is being made."""
    strip_accents: bool | None = None
    """Of a file. None strips them when it is for lowercased text, as google-research/bert."""


class BaseVocabulary(ExistingVocabulary):
    """The vocabulary to go on from. Its entries keep their ids."""

    new_words: Literal["none", "unused", "append"] = "none"
    """Words of the corpus that it parts into pieces become entries: none do (an import), or as many as it has free
    `[unused]` slots, or as many as fit under `size` behind its last entry."""


class VocabularyConfig(Table):
    """A WordPiece vocabulary from the corpus' train part."""

    name: Annotated[str, WHERE]
    """The artifact's name in the store."""
    size: Annotated[int, Field(ge=16, le=1_000_000)] = 30_522
    """Entries, specials and free slots included; a hard cap."""
    objective: Literal["bpe", "wordpiece"] = "bpe"
    """By what the next piece is chosen: the count of a pair of neighbours (Sennrich et al. 2016, as in everyone's
    vocabularies today), or its likelihood score, count(ab) / (count(a) * count(b)) (Schuster & Nakajima 2012)."""
    lowercase: bool = True
    """Uncased, as bert-base-uncased."""
    strip_accents: bool | None = None
    """None strips them when `lowercase` does, as google-research/bert."""
    min_frequency: Annotated[int, Field(ge=1)] = 2
    """Pieces below this count are not learned."""
    min_character_frequency: Annotated[int, Field(ge=1)] | None = None
    """Every character that stands so often is an entry, whatever its script; text with any other is [UNK]. None: as
    `min_frequency`."""
    min_groups: Annotated[int, Field(ge=1, le=64)] = 1
    """A word that stands in fewer groups (patients, sites, authors; documents where they have none) teaches nothing and
    is stored nowhere in the artifact: so that no rare name is learned."""
    layout: Literal["compact", "google"] = "compact"
    """Ids of the specials: 0 to 4, or as in bert-base-uncased: [PAD] 0, [UNK] 100, [CLS] 101, [SEP] 102, [MASK] 103."""
    unused: Annotated[int, Field(ge=0)] = 0
    """Free slots, `[unused0]`, ..., which a later vocabulary may fill; bert-base-uncased has 994."""
    tokens: tuple[str, ...] = ()
    """Kept whole, as are the corpus' replacement tokens. One that is a single word is an entry like others; one with
    blanks, punctuation or several Chinese characters is found as it is written: give each spelling."""
    base: BaseVocabulary | None = None
    """A vocabulary to import or to extend, instead of learning one; `objective`, `layout` and `unused` then mean
    nothing, and `size` only what is appended up to. None learns one."""
    compare: tuple[ExistingVocabulary, ...] = ()
    """Vocabularies beside which the card shows how this one fits held-out text."""

    @field_validator("tokens")
    @classmethod
    def _tokens_are_sound(cls, tokens: tuple[str, ...]) -> tuple[str, ...]:
        seen = set[str]()
        for token in tokens:
            if not token.strip() or token != token.strip():
                raise ValueError(f"the token {token!r} is empty or has a blank at an end; take it away")
            if token.startswith("##"):
                raise ValueError(
                    f"the token {token!r} begins with ##, as pieces that continue a word do; give the word"
                )
            if {"\n", "\r", "\t"} & {*token}:
                raise ValueError(f"the token {token!r} has a line end or a tab in it, which no vocab.txt can hold")
            if token in seen:
                raise ValueError(f"the token {token!r} is given twice; take one away")
            seen.add(token)
        return tokens

    @model_validator(mode="after")
    def _an_import_takes_no_tokens(self) -> "VocabularyConfig":
        if self.tokens and self.base and self.base.new_words == "none":
            raise ValueError(
                'tokens are given, but base.new_words = "none" takes a vocabulary as it is; take tokens away, or give '
                '"unused" or "append"'
            )
        return self

    @property
    def character_frequency(self) -> int:
        """`min_character_frequency`, worked out where the preset leaves it open."""
        return self.min_character_frequency or self.min_frequency


class Segmenter(Table):
    """What tells the words of a text that doesn't part them by blanks."""

    name: str = "jieba"
    """A key of `pipeline.dataset.text.segmentation.SEGMENTERS`. Its version counts."""
    dictionary: Annotated[str | None, WHERE] = None
    """A file of words of one's own, in the segmenter's form, relative to the preset's folder. What stands in it
    counts."""


class Gates(Table):
    """What a dataset must hold; where it doesn't, the stage fails and publishes nothing."""

    random_next_tolerance: Share = 0.02
    """How far the share of second segments that don't follow may be from what was asked for, beyond what is chance."""
    max_unknown_share: Share = 0.05
    """Share of [UNK] among the corpus' tokens."""
    min_used_share: Share = 0.95
    """Share of the corpus' tokens that stand in a sample of their own document, in each pass."""
    max_duplicate_share: Share = 0.1
    """Share of samples that are equal to an earlier one of their pass: text that stands twice."""


Fault = Literal[
    "lone_sentence_is_random", "one_target_a_document", "truncation", "own_document_as_another", "special_random_words"
]


class DatasetConfig(Table):
    """Samples for the masked-LM and next-sentence objectives (google-research/bert, create_pretraining_data.py)."""

    name: Annotated[str, WHERE]
    """The artifact's name in the store."""
    max_seq_length: Annotated[int, Field(ge=8, le=512)] = 128
    """Tokens in a sample at most, [CLS] and [SEP] included."""
    pairs: Literal["nsp", "sop", "none"] = "nsp"
    """What the second segment is: what follows or text of another document (Devlin et al. 2019); what follows, or the
    two in the other order (Lan et al. 2020); or there is none: full sentences of one document (Liu et al. 2019)."""
    short_seq_prob: Share = 0.1
    """Share of samples built to a shorter, random target length."""
    random_next_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of samples whose second segment doesn't follow: is of another document, or stands first."""
    dupe_factor: Annotated[int, Field(ge=1, le=100)] = 1
    """Passes over the corpus, each with other pairs."""
    rules: Literal["bertmill", "google"] = "bertmill"
    """`google`: sample by sample what google-research/bert's script makes with this seed, faults and order included;
    in one process and in memory, so for small corpora."""
    faults: tuple[Fault, ...] = ()
    """Faults of google-research/bert's script that are to be kept, for comparisons: a chunk of one sentence always
    gets a random next; a target length is drawn once a document; chunks run over the target and are cut down, which
    throws text away; the other document may be the own one; a random word may be a special or an unused entry. (The
    rest, whole words that reach across [SEP], is kept by `rules = "google"` alone.)"""
    segmenter: Segmenter | None = None
    """Which characters make a word, for masks of whole words in Chinese. None: each character is one."""
    masker: Plug = Plug(name="token")
    """A key of `pipeline.dataset.masking.MASKERS`: token, whole_word, ngram, span."""
    masked_lm_prob: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of a sample's tokens that the model predicts."""
    max_predictions_per_seq: Annotated[int, Field(ge=1)] | None = None
    """Predictions in a sample at most. None: `masked_lm_prob` of `max_seq_length`, rounded up (20 at 128)."""
    mask_share: Share = 0.8
    """Share of the predicted tokens that the model sees as [MASK]."""
    random_share: Share = 0.1
    """Share of them that it sees as a random word; the rest it sees as they are."""
    masks: Literal["each_epoch", "stored"] = "each_epoch"
    """Drawn anew in each epoch while training, or once at build time as google-research/bert does."""
    since: Annotated[str | None, WHERE] = None
    """A dataset, `dataset/NAME@VERSION`: documents that its corpus held already train this one only as replay. What it
    leads to counts. None: all documents are new."""
    replay_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """With `since`: share of the tokens that come of documents it held already, chosen by a hash of their text."""
    rows_per_shard: Annotated[int, Field(ge=1, le=1 << 20)] = 65_536
    """Samples in an Arrow file at most; a corpus shard's last file in a pass holds what is left."""
    gates: Gates = Gates()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 12_345
    """Pairs are a function of (seed, pass, index), masks of (seed, epoch, index)."""

    @property
    def predictions_per_seq(self) -> int:
        """The cap on predictions, worked out where the preset leaves it open."""
        return self.max_predictions_per_seq or math.ceil(self.masked_lm_prob * self.max_seq_length)

    @model_validator(mode="after")
    def _shares_add_up(self) -> "DatasetConfig":
        if self.mask_share + self.random_share > 1:
            raise ValueError(
                f"mask_share {self.mask_share} and random_share {self.random_share} are more than 1 together; what "
                f"they leave of 1 the model sees as it is"
            )
        return self

    @model_validator(mode="after")
    def _google_is_google(self) -> "DatasetConfig":
        """What the original knows no setting for is refused beside its rules."""
        if self.rules == "google":
            ours = DatasetConfig(name=self.name)
            unknown = ("pairs", "random_next_share", "faults", "segmenter", "mask_share", "random_share", "since")
            if self.masks != "stored":
                raise ValueError('rules = "google" stores masks, as the original does; set masks = "stored" too')
            if self.masker.keywords or self.masker.name not in ("token", "whole_word"):
                raise ValueError('rules = "google" masks by "token" or "whole_word", without keywords')
            for name in unknown:
                if getattr(self, name) != getattr(ours, name):
                    raise ValueError(f'rules = "google" knows no {name} but the default; take it away')
        return self


class MixedDataset(Table):
    """A dataset in the mixture of a phase."""

    dataset: Annotated[str | None, WHERE] = None
    """A reference, `dataset/NAME@VERSION`. What it leads to counts. None: the training's own."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Its share of the phase's samples, relative to the others' weights."""


class PhaseConfig(Table):
    """Steps of a training that are alike."""

    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Its part of the budget, of `max_steps` or `max_tokens`. All phases have one, adding up to 1, or none has."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """Its optimizer steps. All phases have them, adding up to `max_steps`, or none has."""
    max_seq_length: Annotated[int, Field(ge=8, le=512)] | None = None
    """Tokens in a sample at most: longer rows are cut, a pair to the end of A and the start of B. None: none is."""
    train_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Samples in an optimizer step. None: as the training's."""
    train_micro_batch_size_per_gpu: Annotated[Annotated[int, Field(ge=1)] | None, WHERE] = None
    """Samples a rank takes at once. None: as the training's."""
    datasets: tuple[MixedDataset, ...] = ()
    """What its samples are of, by weight. None given: the training's own dataset alone."""

    @property
    def mixture(self) -> tuple[MixedDataset, ...]:
        """`datasets`, written out."""
        return self.datasets or (MixedDataset(),)


class PretrainingConfig(Table):
    """The encoder (Devlin et al. 2019) and how it is trained. The defaults are BERT-base's."""

    name: Annotated[str, WHERE]
    """The artifact's name in the store."""
    init: Annotated[str | None, WHERE] = None
    """What training goes on from: `pretraining/NAME@VERSION`, or the path of a Hugging Face folder, relative to the
    preset's folder. What it leads to counts, and decides what of the architecture isn't stated. None: from the seed."""
    hidden_size: Annotated[int, Field(ge=8)] = 768
    num_hidden_layers: Annotated[int, Field(ge=1)] = 12
    num_attention_heads: Annotated[int, Field(ge=1)] = 12
    intermediate_size: Annotated[int, Field(ge=8)] = 3_072
    max_position_embeddings: Annotated[int, Field(ge=8, le=512)] = 512
    hidden_dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout of the embeddings and of each layer's outputs; attention has none (the fast kernels know none)."""
    initializer_range: Annotated[float, Field(gt=0)] = 0.02
    """Standard deviation of the initial weights."""
    layer_norm_eps: Annotated[float, Field(gt=0)] = 1e-12

    train_batch_size: Annotated[int, Field(ge=1)] = 256
    """Samples in an optimizer step, over all ranks and micro-batches."""
    max_steps: Annotated[int, Field(ge=1)] | None = 1_000_000
    """The budget in optimizer steps. None where `max_tokens` is given in its place."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """The budget in tokens of samples. It becomes whole steps before the start, by the dataset's mean length; a
    training of so many steps is the same artifact."""
    phases: tuple[PhaseConfig, ...] = ()
    """Parts of the training with other lengths, batches or datasets, in their order: 128 and then 512, or a batch that
    grows. None given: all steps are alike."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """The peak."""
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of all steps in which the rate rises linearly to the peak, before it goes by `schedule`: as in the paper
    10,000 steps of a million, and right for a shorter training too."""
    schedule: Plug = Plug(name="linear")
    """A key of `pipeline.pretraining.schedule.SCHEDULES`: linear, cosine, warmup_stable_decay, constant. It spans all
    phases."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-6
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decoupled; biases and LayerNorm weights have none."""
    gradient_clipping: Annotated[float, Field(gt=0)] = 1.0
    """Largest global norm of a step's gradient."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the weights in the forward and backward pass; the optimizer's are always fp32. bf16 is for CPUs and for GPUs
    since NVIDIA's Ampere; fp16, with a loss scale that finds itself, for GPUs before it (V100, T4)."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 12_345
    """Of the initial weights, the order of samples and dropout."""

    train_micro_batch_size_per_gpu: Annotated[int, Field(ge=1), WHERE] = 32
    """Samples a rank takes at once; a step's samples are dealt into as many micro-batches as that makes."""
    activation_checkpointing: Annotated[bool, WHERE] = False
    """Keep each layer's input alone for the backward pass and compute the rest again: a third more work, for a
    micro-batch several times as large."""
    loader_workers: Annotated[int, Field(ge=0, le=64), WHERE] = 1
    """Threads of a rank that make batches ahead of need; 0 makes each when it is asked for."""
    deepspeed: Annotated[str, WHERE] = "zero1"
    """A file of `deepspeed_configs/`, or a path: the systems keys (ZeRO stage, buckets, communication)."""
    checkpoint_every: Annotated[int, Field(ge=1), WHERE] = 1_000
    """Steps between two checkpoints."""
    keep_checkpoints: Annotated[int, Field(ge=1), WHERE] = 2
    """The newest that are kept while it trains; an older one is gone on from where a newer one is corrupt."""
    keep_every: Annotated[int | None, Field(ge=1), WHERE] = None
    """Checkpoints of steps that this divides are kept too, until the training is published."""
    snapshots: Annotated[tuple[Fraction, ...], WHERE] = ()
    """Shares of `max_steps` after each of which an artifact of that step is made, for evaluation while it trains."""
    log_every: Annotated[int, Field(ge=1), WHERE] = 50
    """Steps between two lines of progress; the curve keeps every step."""
    validate_every: Annotated[int, Field(ge=1), WHERE] = 1_000
    """Steps between two scores on held-out samples; the last step has one too."""
    validation_samples: Annotated[int, Field(ge=0), WHERE] = 1_024
    """Held-out samples that are scored then, at most; 0: none."""
    floor_step: Annotated[int | None, Field(ge=1), WHERE] = None
    """The step by which the masked-LM loss must be under the entropy of the words' frequencies, which a model reaches
    that has learned nothing else; a training that isn't there stops. None: none is asked for."""

    @model_validator(mode="after")
    def _shapes_fit(self) -> "PretrainingConfig":
        if self.init is None and self.hidden_size % self.num_attention_heads:  # a parent decides both
            raise ValueError(
                f"hidden_size {self.hidden_size} can't be split over num_attention_heads {self.num_attention_heads}; "
                f"choose a multiple"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _tokens_take_the_place_of_steps(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("max_tokens") is not None and "max_steps" not in values:
            return values | {"max_steps": None}
        return values

    @model_validator(mode="after")
    def _one_budget(self) -> "PretrainingConfig":
        if (self.max_steps is None) == (self.max_tokens is None):
            given = "neither" if self.max_steps is None else "both"
            raise ValueError(f"give one of max_steps and max_tokens, and not {given}")
        return self

    @model_validator(mode="after")
    def _phases_add_up(self) -> "PretrainingConfig":
        if not self.phases:
            return self
        shares = [phase.share for phase in self.phases if phase.share is not None]
        steps = [phase.steps for phase in self.phases if phase.steps is not None]
        if sorted((len(shares), len(steps))) != [0, len(self.phases)]:
            raise ValueError("each of the phases must have a share, or each of them steps, and none of them both")
        if shares and not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise ValueError(f"the phases' shares add up to {sum(shares):g}; they must make 1")
        if steps and self.max_steps is None:
            raise ValueError("a budget of max_tokens is parted by shares; give each of the phases a share, not steps")
        if steps and sum(steps) != self.max_steps:
            raise ValueError(
                f"the phases' steps add up to {sum(steps)}, where max_steps is {self.max_steps}; set max_steps to "
                f"{sum(steps)}, or give each of the phases a share"
            )
        for number, phase in enumerate(self.phases, 1):
            if phase.max_seq_length is not None and phase.max_seq_length > self.max_position_embeddings:
                raise ValueError(
                    f"phase {number} has max_seq_length {phase.max_seq_length}, over max_position_embeddings "
                    f"{self.max_position_embeddings}; raise the latter or shorten the phase's samples"
                )
        return self

    @property
    def steps(self) -> int:
        """All optimizer steps. ValueError while the budget is still in tokens (pretraining/phases.py settles it)."""
        if self.max_steps is None:
            raise ValueError("A budget of tokens has no steps before the dataset is known.")
        return self.max_steps

    @property
    def warmup_steps(self) -> int:
        """`warmup_share` in whole steps."""
        return min(round(self.warmup_share * self.steps), self.steps - 1)

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """`snapshots` in whole steps, in order."""
        return tuple(sorted({min(max(1, round(s * self.steps)), self.steps - 1) for s in self.snapshots}))


class EvaluationConfig(Table):
    """How good the encoder is, next to controls."""

    name: Annotated[str, WHERE]
    """The artifact's name in the store."""
    heldout_samples: Annotated[int, Field(ge=1)] = 4_096
    """Held-out samples on which masked-LM and next-sentence are scored, at most."""
    tasks: tuple[Plug, ...] = ()
    """Keys of `pipeline.evaluation.tasks.TASKS`, each fine-tuned and compared with its controls."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """A task is fine-tuned once for each; the median is its score."""
    pooling: Literal["cls", "mean"] = "cls"
    """What the classifier reads: the pooled [CLS], as published, or the mean of a text's last hidden states, which an
    encoder that has seen little text, and hardly a next sentence, is better told by."""
    epochs: Annotated[int, Field(ge=1)] = 3
    batch_size: Annotated[int, Field(ge=1)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    warmup_share: Share = 0.06
    weight_decay: Annotated[float, Field(ge=0)] = 0.1


class Preset(Table):
    """A whole run: one table per stage."""

    description: Annotated[str, WHERE] = ""
    """One line for `bertmill presets`."""
    corpus: CorpusConfig
    vocabulary: VocabularyConfig
    dataset: DatasetConfig
    pretraining: PretrainingConfig
    evaluation: EvaluationConfig

    @model_validator(mode="after")
    def _stages_fit(self) -> "Preset":
        length, phases = self.dataset.max_seq_length, self.pretraining.phases or (PhaseConfig(),)
        positions = self.pretraining.max_position_embeddings
        whole = [phase for phase in phases if phase.max_seq_length is None]
        if length > positions and any(each.dataset is None for phase in whole for each in phase.mixture):
            raise ValueError(
                f"dataset.max_seq_length {length} is over pretraining.max_position_embeddings {positions}; raise the "
                f"latter or shorten the samples"
            )
        for number, phase in enumerate(phases, 1):
            if not phase.datasets and phase.max_seq_length is not None and phase.max_seq_length > length:
                raise ValueError(
                    f"pretraining.phases: phase {number} has max_seq_length {phase.max_seq_length}, and the samples "
                    f"have up to dataset.max_seq_length {length}; raise the latter, or name a dataset of longer samples"
                )
        return self


def is_reference(text: Any, kind: str) -> bool:
    """Whether what names an artifact of that kind is a reference into the store, and not a path."""
    return isinstance(text, str) and text.startswith(f"{kind}/") and "@" in text


def bound(plug: Plug | Source, functions: Mapping[str, Callable[..., Any]], what: str) -> Callable[..., Any]:
    """The function that a plug names, with its keywords checked against the function's annotations and bound.

    A function's keyword-only parameters are what a preset may set. Raises ConfigError before any work is done: an
    unknown name or keyword (suggests the nearest), a missing one, a value of the wrong type.
    """
    name = plug.format if isinstance(plug, Source) else plug.name
    if name not in functions:
        raise ConfigError(f"There is no {what} {name!r}. {nearest(name, functions)}")
    function = functions[name]
    known = {n: p for n, p in signature(function).parameters.items() if p.kind is Parameter.KEYWORD_ONLY}
    hints = get_type_hints(function, include_extras=True)
    checked: dict[str, Any] = {}
    for key, value in plug.keywords.items():
        if key not in known:
            raise ConfigError(
                f"The {what} {name!r} has no keyword {key!r}. {nearest(key, known) if known else 'It takes none.'}"
            )
        try:
            checked[key] = TypeAdapter(hints[key]).validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"The {what} {name!r}: {key} is {value!r}: {error.errors()[0]['msg']}.") from None
    for key, parameter in known.items():
        if parameter.default is Parameter.empty and key not in checked:
            raise ConfigError(f"The {what} {name!r} needs the keyword {key!r}.")
    return partial(function, **checked)
