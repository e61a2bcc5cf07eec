"""Wikitext to plain text: paragraphs, headings and lists stay; tables, references, files and navigation go.

Templates, links, tables and Chinese conversions nest, so one scan with a stack takes them apart: each is resolved when
it closes, into the text around it. What never closes is text again. The stack's depth is bounded, and so each character
is looked at a bounded number of times, whatever braces a page has. What templates say is in `templates`: no number that
stands in a sentence is lost with one that isn't known there. Cost: benchmarks/README.md.
"""

import html
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.corpus.formats.templates import resolved

Variant = Literal["zh-hans", "zh-hant", "zh-cn", "zh-tw", "zh-hk"]
DEEPEST = 100
"""Templates, links and tables that may stand in each other; what is deeper is text."""
LONGEST_HEADING = 500
"""Characters of a heading or a title; MediaWiki's titles have 255 bytes."""
SECTIONS = (
    "see also|references|notes|footnotes|citations|sources|bibliography|further reading|external links|"
    "notes and references|works cited|参考文献|參考文獻|参考资料|參考資料|参考来源|參考來源|注释|註釋|注釋|"
    "脚注|腳註|备注|備註|相关条目|相關條目|参见|參見|参看|參看|外部链接|外部連結|外部連接|延伸阅读|延伸閱讀|"
    "扩展阅读|擴展閱讀"
)
"""Headings of sections that are no prose."""
_FALLBACK = {
    "hans": ("zh-hans", "zh-cn", "zh-sg", "zh-my", "zh", "zh-hant", "zh-tw", "zh-hk", "zh-mo"),
    "hant": ("zh-hant", "zh-tw", "zh-hk", "zh-mo", "zh", "zh-hans", "zh-cn", "zh-sg", "zh-my"),
}
_NOT_PROSE = "ref|references|gallery|timeline|score|imagemap|graph|templatedata|mapframe|maplink|syntaxhighlight|source"
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_ELEMENT = re.compile(rf"<(/?)({_NOT_PROSE}|nowiki|pre|math|chem)(?:\s[^<>]*?)?(/?)>", re.IGNORECASE)
_PARAMETER = re.compile(r"\{\{\{[^{}|]{0,200}(?:\|([^{}]{0,200}))?\}\}\}")
_TOKEN = re.compile(r"\{\{|\}\}|\[\[|\]\]|^[ \t:]*\{\||^[ \t]*\|\}(?!\})|-\{|\}-|\|", re.MULTILINE)
_FILE = re.compile(r"(?:file|image|media|category|文件|档案|檔案|图像|圖像|媒体|媒體|分类|分類)\s*:", re.IGNORECASE)
_INTERWIKI = re.compile(r"[a-z]{2,3}(?:-[a-z-]{2,12})?:(?! )")
_PIPE_TRICK = re.compile(r"^:?(?:[^:()（）,]*:)?(.*?)(?: ?[(（].*[)）]|, .*)?$")
_EXTERNAL = re.compile(r"\[(?:(?:https?:|ftp:)?//|mailto:)[^\s\[\]]{1,2000}(?:[ \t]+([^\[\]\n]{0,1000}))?\]")
_QUOTES = re.compile(r"'{2,}")
_POWER = re.compile(r"<sup(?:\s[^<>]*)?>([0-9+\-−n]{1,12})</sup\s*>", re.IGNORECASE)
_POWERS = str.maketrans("0123456789+-−n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻ⁿ")
_BREAK = re.compile(r"<(?:br|hr|/?p|/?div|/?blockquote|/?center|/?li|/?tr)(?:\s[^<>]*)?/?>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:abbr|b|bdi|bdo|big|cite|code|data|dd|del|dfn|dl|dt|em|font|i|includeonly|ins|kbd|mark|noinclude|nowiki|ol|"
    r"onlyinclude|poem|pre|q|rb|rp|rt|ruby|s|samp|section|small|span|strike|strong|sub|sup|table|tbody|td|th|thead|time|"
    r"tt|u|ul|var|wbr)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_RUBY = re.compile(r"<(rt|rp)(?:\s[^<>]*)?>[^<]*</\1\s*>", re.IGNORECASE)
_SWITCH = re.compile(r"__[A-Z]{3,20}__")
_HEADING = re.compile(r"(={1,6})[ \t]*(.+?)[ \t]*\1[ \t]*")
_MARKS = re.compile(r"[*#:;]+[ \t]*")
_LEFT_OVER = re.compile(r"[ \t]*\{\||[ \t]*\|[}-]|-{4,}")
_EMPTY = re.compile(r" ?[(（][\s,;:，；：、]{0,20}[)）]")
_OPENED = re.compile(r"([(（])[ ,;，；、]{1,20}(?=\S)")
_CLOSED = re.compile(r"(?<![ ,;，；、])[ ,;，；、]{1,20}([)）])")
_STRAY = re.compile(r"(?<![ \t])[ \t]{1,3}([,;)]|\.(?=\s|$))")
_BLANKS = re.compile(r"[ \t]{2,}")
_HIDDEN = str.maketrans({char: chr(0xE000 + ord(char)) for char in "{}[]|'<>=*#:;-_&"})
_SHOWN = {0xE000 + ord(char): char for char in "{}[]|'<>=*#:;-_&"}


@dataclass
class _Frame:
    """Something that has been opened: its pieces, parted at its own bars."""

    opener: str
    parts: list[list[str]] = field(default_factory=lambda: [[]])

    def arguments(self) -> list[str]:
        return ["".join(part) for part in self.parts]

    def as_text(self) -> str:
        """What stands there when it never closes."""
        return "|".join(self.arguments())


def plain_text(
    text: str,
    *,
    title: str = "",
    language: Literal["en", "zh"] = "en",
    variant: Variant = "zh-hans",
    sections: Sequence[str] | None = None,
) -> str:
    """The text that a page's wikitext shows; without the sections of those headings (None: `SECTIONS`)."""
    dropped = frozenset(SECTIONS.split("|") if sections is None else map(str.lower, sections))
    text = _COMMENT.sub("", text)
    text = _PARAMETER.sub(r"\1", _without_elements(text))
    text = _Scan(title, language, variant).text(text)
    return _lines(_inline(text), dropped).translate(_SHOWN)


def _without_elements(text: str) -> str:
    """The text without notes, galleries and the like, and with what is no wikitext hidden from the scan."""
    found = list(_ELEMENT.finditer(text))
    ends: dict[str, list[re.Match[str]]] = {}
    for match in found:
        if match[1]:
            ends.setdefault(match[2].lower(), []).append(match)
    pieces, position = list[str](), 0
    for match in found:
        if match.start() < position:
            continue
        pieces.append(text[position : match.start()])
        position, tag = match.end(), match[2].lower()
        closing = ends.get(tag, [])
        at = bisect_left(closing, position, key=re.Match.start)
        if not match[1] and not match[3] and at < len(closing):
            pieces.append(_literal(tag, text[position : closing[at].start()]))
            position = closing[at].end()
    return "".join(pieces) + text[position:]


def _literal(tag: str, content: str) -> str:
    """What an element shows: nothing, or what stands in it as it stands there; of formulas those that read as text."""
    if tag not in ("nowiki", "pre", "math", "chem") or (tag == "math" and set(content) & set("\\{}")):
        return ""
    return html.unescape(content).translate(_HIDDEN)


class _Scan:
    """One pass over a page."""

    def __init__(self, title: str, language: str, variant: str) -> None:
        self._title, self._language = title, language
        self._variants = (variant, *_FALLBACK["hant" if variant in ("zh-hant", "zh-tw", "zh-hk") else "hans"])
        self._open = {"{{": 0, "[[": 0, "{|": 0, "-{": 0}

    def text(self, text: str) -> str:
        self._stack = [_Frame("")]
        position = 0
        for match in _TOKEN.finditer(text):
            start, end = match.span()
            if start < position:
                continue
            if start > position:
                self._stack[-1].parts[-1].append(text[position:start])
            self._token(match[0], text, end)
            position = end
        self._stack[-1].parts[-1].append(text[position:])
        while len(self._stack) > 1:
            self._give_up()
        return "".join(self._stack[0].parts[0])

    def _token(self, token: str, text: str, end: int) -> None:
        kind = token.strip(" \t:")
        top = self._stack[-1]
        if kind == "|":
            if top.opener in ("{{", "[[", "-{"):
                top.parts.append([])
            else:
                top.parts[-1].append(token)
        elif kind in self._open:
            if len(self._stack) > DEEPEST or (kind == "-{" and self._language != "zh"):
                top.parts[-1].append(token)
            else:
                self._stack.append(_Frame(kind))
                self._open[kind] += 1
        else:
            self._close({"}}": "{{", "]]": "[[", "|}": "{|", "}-": "-{"}[kind], token, text, end)

    def _close(self, opener: str, token: str, text: str, end: int) -> None:
        if not self._open[opener] or (opener != "{{" and not self._is_inside(opener)):
            if token != "}-" or self._language != "zh":
                self._stack[-1].parts[-1].append(token if opener in ("-{", "[[") else "")
            return
        while self._stack[-1].opener != opener:
            self._give_up()
        frame = self._stack.pop()
        self._open[opener] -= 1
        self._stack[-1].parts[-1].append(self._resolved(frame, text, end))

    def _is_inside(self, opener: str) -> bool:
        """Whether one is open within the innermost template."""
        for frame in reversed(self._stack):
            if frame.opener == opener:
                return True
            if frame.opener == "{{":
                return False
        return False

    def _give_up(self) -> None:
        frame = self._stack.pop()
        self._open[frame.opener] -= 1
        self._stack[-1].parts[-1].append("" if frame.opener == "{|" else frame.as_text())

    def _resolved(self, frame: _Frame, text: str, end: int) -> str:
        if frame.opener == "{|":
            return ""
        if frame.opener == "[[":
            return _link(frame.arguments())
        if frame.opener == "-{":
            return _converted(frame.arguments(), self._variants)
        before = self._before()
        alone = before in ("", "\n") and (end == len(text) or text[end] == "\n") and len(self._stack) == 1
        return resolved(frame.arguments(), title=self._title, language=self._language, alone=alone)

    def _before(self) -> str:
        """The last character before what is being resolved."""
        for piece in reversed(self._stack[-1].parts[-1]):
            if piece:
                return piece[-1]
        return ""


def _link(arguments: list[str]) -> str:
    """What a link shows; files, categories and links to other languages show nothing in the text."""
    target = arguments[0].strip()
    if not target.startswith(":") and _FILE.match(target):
        return ""
    if len(arguments) == 1:
        return "" if _INTERWIKI.match(target) else target.removeprefix(":")
    label = "|".join(arguments[1:]).strip()
    return label or _PIPE_TRICK.sub(r"\1", target[:LONGEST_HEADING])


def _converted(arguments: list[str], variants: Sequence[str]) -> str:
    """The form of a Chinese conversion that readers of the variant see."""
    flags = arguments[0].strip() if len(arguments) > 1 else ""
    body = "|".join(arguments[1:] if len(arguments) > 1 else arguments)
    if flags and set(flags) & set("HT-"):
        return ""
    forms: dict[str, str] = {}
    for rule in filter(str.strip, body.split(";")):
        name, colon, form = rule.partition(":")
        if not colon or not name.strip().lower().startswith("zh"):
            return body if not forms else next(iter(forms.values()))
        forms[name.strip().lower()] = form.strip()
    return next((forms[name] for name in variants if name in forms), next(iter(forms.values()), ""))


def _inline(text: str) -> str:
    """Links out, quotes, tags and entities."""
    text = _EXTERNAL.sub(lambda match: match[1] or "", text)
    text = _QUOTES.sub(lambda match: {4: "'", 6: "'"}.get(len(match[0]), ""), text)
    if "<" in text:
        text = _POWER.sub(lambda match: match[1].translate(_POWERS), text)
        text = _RUBY.sub("", text)
        text = _BREAK.sub("\n", text)
        text = _TAG.sub("", text)
    if "&" in text:
        text = html.unescape(text)
    return _SWITCH.sub("", text).replace("\u00a0", " ")


def _lines(text: str, dropped: frozenset[str]) -> str:
    """Paragraphs parted by blank lines; a heading before its text; nothing of what the marks were for."""
    kept = list[str]()
    waiting = list[tuple[int, str]]()  # headings whose text hasn't come yet
    without = 7  # the level of the section that is left out, 7: none
    for line in text.split("\n"):
        line = line.strip()
        if line[-1:] == "=" and len(line) < LONGEST_HEADING and (heading := _HEADING.fullmatch(line)) is not None:
            level, name = len(heading[1]), heading[2].strip()
            if level <= without:
                without = level if name.lower() in dropped else 7
                waiting = [each for each in waiting if each[0] < level]
                if without == 7:
                    waiting.append((level, name))
            continue
        if without < 7 or _LEFT_OVER.match(line):
            continue
        line = _tidied(_MARKS.sub("", line, count=1) if line[:1] in "*#:;" else line)
        if line and waiting:
            for _, name in waiting:
                kept += ["", name]
            waiting = []
        kept.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _tidied(line: str) -> str:
    if "(" in line or "（" in line:
        line = _EMPTY.sub("", line)
        line = _CLOSED.sub(r"\1", _OPENED.sub(r"\1", line))
    return _BLANKS.sub(" ", _STRAY.sub(r"\1", line)).strip()
