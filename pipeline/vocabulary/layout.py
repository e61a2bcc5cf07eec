"""Which entries a vocabulary begins with: specials, free slots, and the tokens that its user or the corpus names.

Two orders. `compact` has the specials at 0 to 4, then the free slots. `google` has them where bert-base-uncased does:
[PAD] at 0, [unused0] to [unused98], [UNK] [CLS] [SEP] [MASK] at 100 to 103, then the other free slots.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from pipeline.errors import ConfigError

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONTINUES = "##"
LONGEST_WORD = 100
"""Characters; a longer word is [UNK], as in the reference, and teaches nothing."""
GOOGLES_GAP = 99
Layout = Literal["compact", "google"]


def first_entries(layout: Layout, unused: int, tokens: Sequence[str] = ()) -> list[str]:
    """The entries before the alphabet. Raises ConfigError for too few free slots for Google's order."""
    slots = [unused_slot(number) for number in range(unused)]
    if layout == "compact":
        return [*SPECIALS, *slots, *tokens]
    if unused < GOOGLES_GAP:
        raise ConfigError(
            f'vocabulary.unused is {unused}, but vocabulary.layout = "google" has {GOOGLES_GAP} free slots before its '
            f"specials. Give at least {GOOGLES_GAP}; bert-base-uncased has 994, bert-base-chinese 99."
        )
    return [SPECIALS[0], *slots[:GOOGLES_GAP], *SPECIALS[1:], *slots[GOOGLES_GAP:], *tokens]


def check_tokens(tokens: Iterable[str]) -> None:
    """Raise ConfigError for a token that is a special or named as a free slot is."""
    for token in tokens:
        if token in SPECIALS or is_unused(token):
            what = "a special token" if token in SPECIALS else "the name of a free slot"
            raise ConfigError(f"vocabulary.tokens has {token}, which is {what} already. Take it away.")


def unused_slot(number: int) -> str:
    """A free slot's name; the id is the model's to learn later."""
    return f"[unused{number}]"


def is_unused(token: str) -> bool:
    """Whether it is the name of a free slot."""
    return token.startswith("[unused") and token.endswith("]") and token[7:-1].isdecimal()
