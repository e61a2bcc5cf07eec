"""A dump's articles come out one by one, and what isn't an article, or isn't a dump, is told from them."""

import bz2
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.formats import compression, rows
from pipeline.corpus.formats.rows import BadRow, Row
from pipeline.corpus.ingest import ingest_corpus
from pipeline.errors import InputError
from pipeline.store import Store
from tests.corpus.formats.test_wikitext import PAGES, name_of
from tests.corpus.test_ingest import documents
from tests.texts import corpus, read, source, write
from tests.wikipedia import HEAD, TAIL, dump, page


def articles(path: Path, **keywords: Any) -> list[Row | BadRow]:
    return list(read("wikipedia", path, **keywords))


MILL = page(7, "Mill", "A '''mill''' & 5 [[stone]]s, a < b.")


def test_an_article_is_its_title_and_its_text_with_its_id_and_day(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml.bz2", dump([MILL, page(8, "A & B", "River.", day="2023-01-02")]))
    assert articles(path) == [
        Row(1, "Mill\n\nA mill & 5 stones, a < b.", "7", None, "en", "2024-05-17"),
        Row(2, "A & B\n\nRiver.", "8", None, "en", "2023-01-02"),
    ]


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_a_read_may_end_anywhere_in_a_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(compression, "CHUNK", chunk)
    path = write(tmp_path / "a.xml", dump(page(n, f"河 {n}", f"磨坊 {n}") for n in range(5)))
    assert [row.text for row in articles(path, language="zh")] == [f"河 {n}\n\n磨坊 {n}" for n in range(5)]


def test_a_multistream_dump_reads_as_one(tmp_path: Path) -> None:
    pieces = [HEAD, *(page(n, str(n), "text") for n in range(9)), TAIL]
    path = tmp_path / "enwiki-pages-articles-multistream.xml.bz2"
    path.write_bytes(b"".join(bz2.compress(piece.encode()) for piece in pieces))
    assert [row.id for row in articles(path)] == [str(n) for n in range(9)]


def test_redirects_disambiguations_and_pages_of_other_namespaces_are_passed_over(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.xml",
        dump(
            [
                page(1, "Talk:Mill", "talk", ns=1),
                page(2, "Mills", "", redirect="Mill"),
                page(3, "Milling", "#REDIRECT [[Mill]]"),
                page(4, "磨", "#重定向 [[磨坊]]"),
                page(5, "Mill (disambiguation)", "'''Mill''' may be\n* [[a]]\n{{disambiguation|geo}}"),
                page(6, "Mill (places)", "{{Place name disambiguation}}"),
                page(7, "磨 (消歧義)", "{{消歧义}}"),
                MILL,
            ]
        ),
    )
    assert [row.id for row in articles(path)] == ["7"]
    assert len(articles(path, disambiguations=True)) == 4


def test_a_page_that_can_not_be_used_is_a_bad_row_and_its_neighbours_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "LONGEST", 2_000)
    broken = page(2, "B", "b").replace("<ns>0</ns>", "")
    pages = [MILL, broken, page(3, "C", "c" * 2_001), page(4, "D", "d@d"), MILL]
    data = dump(pages).encode().replace(b"d@d", b"d\xffd")
    monkeypatch.setattr(compression, "CHUNK", 100)
    path = write(tmp_path / "a.xml", data)
    found = articles(path)
    assert [type(row) for row in found] == [Row, BadRow, BadRow, BadRow, Row]
    assert found[1:4] == [
        BadRow(2, "a page without its namespace, id or text"),
        BadRow(3, rows.TOO_LONG),
        BadRow(4, "not UTF-8"),
    ]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (dump([MILL, MILL])[: -len(TAIL)], "is cut off after page 2. Fetch it again."),
        (dump([MILL, MILL])[:-40], "is cut off after page 1. Fetch it again."),
        ("The mill.", "is no dump of Wikipedia's pages: it begins b'The mill.'. Give a *-pages-articles*.xml.bz2."),
        ("<html>" + "a" * 9_000, "is no dump of Wikipedia's pages"),
    ],
)
def test_what_is_no_whole_dump_is_told_in_a_sentence(tmp_path: Path, data: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        articles(write(tmp_path / "a.xml", data))
    assert sentence in str(error.value)


def test_no_entity_that_a_document_type_defines_is_expanded(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>\n'
    data = bomb + dump([page(1, "A", "x@x")]).replace("x@x", "x &b; &c; x")
    (row,) = articles(write(tmp_path / "a.xml", data))
    assert row.text == "A\n\nx &b; &c; x"


def test_a_corpus_is_made_of_a_dump(store: Store, tmp_path: Path) -> None:
    english = [path for path in PAGES if path.parent.name == "en"]
    text = dump(page(n, path.stem, path.read_text(encoding="utf-8")) for n, path in enumerate(english))
    more = dump(page(n, f"more {n}", f"Mill {n} has {n} stones.") for n in range(100, 130))
    of = {name: write(tmp_path / f"{name}.xml.bz2", data) for name, data in (("w", text), ("m", more))}
    made = ingest_corpus(corpus(*(source(path, "wikipedia", name) for name, path in of.items())), store=store)
    found = {document.id: document for document in documents(store, made)}
    for number, path in enumerate(english):
        shown = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        assert found[f"w/{number}"].text == f"{path.stem}\n\n{shown}", name_of(path)
    assert store.manifest(made).totals["rows_read"] == 35
