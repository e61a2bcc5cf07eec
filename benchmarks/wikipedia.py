"""Wikipedia's dumps to text, beside mwparserfromhell: pages made by rule from those of the tests.

    python benchmarks/wikipedia.py --mb 5 --rounds 3

Both read the same dump, bz2 and XML included, in turn, in one process. mwparserfromhell is used as its users do: the
XML by the standard library's iterparse, `parse(text).strip_code()` with references, tables and files taken out first.
It loses what templates say, so the numbers of the prose that each keeps are counted too.
"""

import argparse
import bz2
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import iterparse

sys.path.insert(0, str(Path(__file__).parent.parent))

from pipeline.corpus.formats.places import LocalFile
from pipeline.corpus.formats.wikipedia import read_wikipedia
from pipeline.corpus.formats.wikitext import plain_text
from tests.corpus.formats.test_wikitext import NUMBERS, PAGES, name_of
from tests.wikipedia import dump, page

try:
    import mwparserfromhell
except ImportError:
    sys.exit("mwparserfromhell isn't installed; it is the peer here: pip install mwparserfromhell.")

NAMESPACE = "{http://www.mediawiki.org/xml/export-0.11/}"


def pages(language: str, size: int) -> Iterator[str]:
    """Pages of `size` characters in all, each a few of the tests' sections, their numbers changed."""
    texts = [
        path.read_text(encoding="utf-8") for path in PAGES if path.parent.name == language and path.stem != "broken"
    ]
    number = 0
    while size > 0:
        number += 1
        text = "\n\n".join(texts[(number * 7 + at) % len(texts)] for at in range(3))
        text = re.sub(r"(?<=[0-9])0(?=[^0-9])", str(number % 10), text)
        size -= len(text)
        yield page(number, f"Page {number}", text)


def whole(language: str) -> list[Path]:
    """The tests' pages of a language, without the one that is broken on purpose."""
    return [path for path in PAGES if path.parent.name == language and path.stem != "broken"]


def ours(path: Path, language: str) -> list[str]:
    return [getattr(row, "text", "") for row in read_wikipedia(LocalFile(path), language=language)]  # type: ignore[arg-type]


def peers(path: Path, language: str) -> list[str]:
    del language
    found = []
    with bz2.open(path) as file:
        for _, element in iterparse(file):
            if element.tag != f"{NAMESPACE}page":
                continue
            text = element.findtext(f"{NAMESPACE}revision/{NAMESPACE}text") or ""
            found.append(extracted(text))
            element.clear()
    return found


def extracted(text: str) -> str:
    """What mwparserfromhell leaves of a page."""
    code = mwparserfromhell.parse(text)
    for tag in code.filter_tags(matches=lambda node: str(node.tag) in ("ref", "table", "gallery"), recursive=False):
        code.remove(tag)
    for link in code.filter_wikilinks(recursive=False):
        if re.match(r"(?i)(file|image|category):", str(link.title)):
            code.remove(link)
    return str(code.strip_code())


def kept(extract: Callable[[str], str], language: str) -> str:
    """How many of the numbers of the tests' pages' prose stay."""
    there = of = 0
    for path in whole(language):
        numbers = NUMBERS[name_of(path)].split()
        left = re.findall(r"[0-9][0-9.,/]*[0-9]|[0-9]", extract(path.read_text(encoding="utf-8")))
        of += len(numbers)
        for number in numbers:
            if number in left:
                left.remove(number)
                there += 1
    return f"{there} of {of}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"{'':14}{'ours, MB/s':>12}{'theirs':>9}{'times':>7}   numbers kept: ours, theirs")
    for language in ("en", "zh"):
        with tempfile.TemporaryDirectory() as folder:
            path, text = Path(folder) / "dump.xml.bz2", dump(pages(language, int(given.mb * 1e6))).encode()
            path.write_bytes(bz2.compress(text))
            times: list[tuple[float, float]] = []
            for _ in range(given.rounds + 1):
                pair = []
                for extract in (ours, peers):
                    start = time.perf_counter()
                    extract(path, language)
                    pair.append(time.perf_counter() - start)
                times.append((pair[0], pair[1]))
        times = times[1:]  # the first warms up
        speeds = [len(text) / 1e6 / statistics.median(each) for each in zip(*times, strict=True)]
        ratio = statistics.median(theirs / mine for mine, theirs in times)
        mine = kept(partial(plain_text, language=language), language)  # type: ignore[arg-type]
        print(f"{language:14}{speeds[0]:12.1f}{speeds[1]:9.2f}{ratio:7.1f}   {mine}, {kept(extracted, language)}")


if __name__ == "__main__":
    main()
