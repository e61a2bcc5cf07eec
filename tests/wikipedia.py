"""Dumps of pages as Wikipedia makes them, from wikitext."""

from collections.abc import Iterable
from xml.sax.saxutils import escape

HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">\n'
    "  <siteinfo>\n    <sitename>Wikipedia</sitename>\n    <dbname>enwiki</dbname>\n  </siteinfo>\n"
)
TAIL = "</mediawiki>\n"


def page(number: int, title: str, text: str, *, ns: int = 0, redirect: str = "", day: str = "2024-05-17") -> str:
    """A page of a dump."""
    to = f'    <redirect title="{escape(redirect)}" />\n' if redirect else ""
    return (
        f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{ns}</ns>\n    <id>{number}</id>\n{to}"
        f"    <revision>\n      <id>{number + 7_000_000}</id>\n      <parentid>1</parentid>\n"
        f"      <timestamp>{day}T09:12:54Z</timestamp>\n      <contributor>\n"
        f"        <username>A &lt;page&gt;</username>\n        <id>12</id>\n      </contributor>\n"
        f"      <model>wikitext</model>\n      <format>text/x-wiki</format>\n"
        f'      <text bytes="{len(text.encode())}" sha1="x" xml:space="preserve">{escape(text)}</text>\n'
        f"      <sha1>x</sha1>\n    </revision>\n  </page>\n"
    )


def dump(pages: Iterable[str]) -> str:
    """A whole dump of those pages."""
    return HEAD + "".join(pages) + TAIL
