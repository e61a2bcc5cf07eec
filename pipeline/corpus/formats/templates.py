"""What Wikipedia's templates say in a sentence, English and Chinese.

Those of `TEMPLATES` are written out; those of `SILENT` (notes, tags, boxes) say nothing. Of any other one that stands
in a sentence its unnamed arguments stay, since most show what they are given (`{{flag|France}}`), and no number may be
lost; one that has its lines to itself is a box, and goes. Named arguments of an unknown template are settings, and go.
Nothing is computed but ages: of `convert` the measure stays as it was written, with its unit.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_NAMED = re.compile(r"([\w -]{1,40}?)\s*=(.*)", re.DOTALL)
_SETTING = re.compile(r"(?:y|n|yes|no|on|off|true|false|left|right|center|none|nobold|df|mdy|dmy)?", re.IGNORECASE)
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z]{2,8})*")
_SILENT_START = re.compile(
    r"(?:cite|citation|infobox|navbox|sfn|efn|harv|refn|use [a-z]+ (?:dates|english)|pp-|commons|authority|taxobox|"
    r"speciesbox|succession|s-|sidebar|portal|redirect|hatnote|campaignbox|isbn|issn|doi|oclc|noteta|notetag|信息框)"
    r"|.*(?:[ -]stub|小作品|消歧义|消歧義)$"
)
_SPOKEN = re.compile(r"lang(?:x)?-[a-z-]+|langx|ipa-[a-z-]+|transl(?:iteration)?|zh-[a-z]+|link-[a-z-]+")
_SILENT = (
    "main|main article|see also|see|further|further information|about|for|other uses|distinguish|"
    "not to be confused with|short description|good article|featured article|coord missing|reflist|notelist|r|"
    "rp|ref|note|cn|fact|citation needed|clarify|clarification needed|who|when|by whom|which|where|why|how|"
    "according to whom|vague|dubious|failed verification|unreferenced|refimprove|more citations needed|"
    "original research|better source needed|page needed|dead link|webarchive|anchor|anchors|clear|clr|-|toc|"
    "toc limit|flagicon|flag icon|sic|inflation-fn|inflation/fn|update inline|update after|defaultsort|"
    "displaytitle|unbulleted list citebundle|multiple image|gallery|image frame|legend|col-begin|col-end|col-2|"
    "col-break|div col|div col end|refbegin|refend|subject bar|sister project links|official website|"
    "imdb title|find a grave|featured list|authority control|italic title|lowercase title|family name hatnote|"
    "good|lead missing|主|主条目|主條目|参见|參見|另见|另見|见|見|来源请求|來源請求|何时|何時|谁|誰|哪裡|哪里|"
    "wayback|cite web|消歧义|消歧義|多个问题|多個問題|未完成|优良条目|優良條目|典范条目|典範條目|regional"
)
SILENT = frozenset(_SILENT.split("|"))
_UNITS = {
    "km2": "km²", "m2": "m²", "cm2": "cm²", "mm2": "mm²", "km3": "km³", "m3": "m³", "cm3": "cm³", "sqmi": "sq mi",
    "sqkm": "km²", "sqm": "m²", "sqft": "sq ft", "cuft": "cu ft", "cumi": "cu mi", "acre": "acres",
    "C": "°C", "F": "°F",
    "mph": "mph", "km/h": "km/h", "m/s2": "m/s²", "inch": "inches", "foot": "feet", "impgal": "imp gal",
    "USgal": "US gal", "nmi": "nautical miles", "lb-f": "lbf", "$/acre": "$/acre",
}  # fmt: skip
_BETWEEN = {
    "-": "–", "–": "–", "to": " to ", "and": " and ", "or": " or ", "by": " by ", "x": " × ", "×": " × ", "+/-": " ± ",
    "±": " ± ", "to about": " to about ", "&": " & ", ",": ", ", "*": " × ", "to(-)": " to ",
}  # fmt: skip
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A template as it is written."""

    name: str
    given: tuple[str, ...]
    """The unnamed arguments, stripped."""
    named: Mapping[str, str]
    language: str
    title: str

    def get(self, at: int, default: str = "") -> str:
        """An unnamed argument from 0, also where it is given by its number."""
        return self.named.get(str(at + 1), self.given[at] if at < len(self.given) else default)

    @property
    def texts(self) -> list[str]:
        """The unnamed arguments that say something."""
        numbered = {int(name): value for name, value in self.named.items() if name.isdigit() and len(name) < 4}
        given = dict(enumerate(self.given, 1)) | numbered
        return [given[at] for at in sorted(given) if given[at]]


def resolved(arguments: list[str], *, title: str, language: str, alone: bool) -> str:
    """What a template shows. `alone`: it has its lines to itself."""
    head = arguments[0].strip().replace("_", " ")
    if head.startswith("#") or ":" in head:
        if (said := _function(head, arguments)) is not None:
            return said
        head = re.sub(r"^(?:template|模板|msg|subst)\s*:\s*", "", head, flags=re.IGNORECASE)
    name = head[:200].lower()
    call = _call(name, arguments[1:], language, title)
    if (known := TEMPLATES.get(name)) is not None:
        return known(call)
    if name in SILENT or _SILENT_START.match(name):
        return ""
    if (spoken := _SPOKEN.fullmatch(name)) is not None:
        return _linked(call) if spoken[0].startswith("link-") else (call.texts or [""])[-1 if "transl" in name else 0]
    if alone or any("\n" in argument.strip() for argument in arguments[1:]):
        return ""
    return " ".join(text for text in call.texts if not _SETTING.fullmatch(text))


def _call(name: str, arguments: list[str], language: str, title: str) -> Call:
    given, named = list[str](), dict[str, str]()
    for argument in map(str.strip, arguments):
        if "=" in argument and (match := _NAMED.fullmatch(argument)) is not None:
            named[match[1].strip().lower()] = match[2].strip()
        else:
            given.append(argument)
    return Call(name, tuple(given), named, language, title)


def _function(head: str, arguments: list[str]) -> str | None:
    """What a parser function shows; None: it is no function, or none that is known."""
    name, _, first = head.partition(":")
    name, first = name.strip().lower(), first.strip()
    rest = [argument.strip() for argument in arguments[1:]]
    if name == "formatnum":
        return _with_commas(first)
    if name in ("lc", "uc", "lcfirst", "ucfirst", "nowiki"):
        return {"lc": first.lower(), "uc": first.upper()}.get(name, first)
    if name == "#if":
        return (rest[0] if first else rest[1] if len(rest) > 1 else "") if rest else ""
    if name == "#tag":
        return rest[0] if rest and first.lower() not in ("ref", "references") else ""
    if name.startswith("#") or name in (
        "defaultsort",
        "displaytitle",
        "默认排序",
        "預設排序",
        "int",
        "fullurl",
        "urlencode",
    ):
        return ""
    return None


def _with_commas(number: str) -> str:
    whole, dot, fraction = number.replace(",", "").partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}{dot}{fraction}" if digits.isdecimal() else number


def _first(call: Call) -> str:
    return call.get(0)


def _last(call: Call) -> str:
    return (call.texts or [""])[-1]


def _all(separator: str) -> Callable[[Call], str]:
    return lambda call: separator.join(call.texts)


def _text(text: str) -> Callable[[Call], str]:
    return lambda _: text


def _before(mark: str) -> Callable[[Call], str]:
    return lambda call: mark + call.get(0)


def _convert(call: Call) -> str:
    """The measure as it was given: 5 km, 5–10 km, 5 ft 10 in."""
    said, at, given = "", 0, call.given
    while at < len(given) and re.search(r"[0-9]", given[at]):
        said += given[at]
        link = given[at + 1] if at + 1 < len(given) else ""
        if link in _BETWEEN:
            said += _BETWEEN[link]
            at += 2
            continue
        said += f" {_UNITS.get(link, link)}" if link else ""
        following = given[at + 2] if at + 2 < len(given) else ""
        if link in ("ft", "lb", "st", "mi", "yd", "foot") and re.fullmatch(r"[0-9./+]+", following):
            said += " "
            at += 2
            continue
        break
    return said or " ".join(call.texts[:2])


def _value(call: Call) -> str:
    said = call.get(0)
    if call.get(1):
        said += f" ± {call.get(1)}"
    if power := call.named.get("e"):
        said += f" × 10^{power}"
    unit = call.named.get("u") or call.named.get("ul") or ""
    return f"{call.named.get('p', '')}{said}{call.named.get('s', '')}{' ' if unit else ''}{unit}"


def _fraction(call: Call) -> str:
    texts = call.texts
    if len(texts) == 3:
        return f"{texts[0]} {texts[1]}/{texts[2]}"
    return f"1/{texts[0]}" if len(texts) == 1 else "/".join(texts[:2])


def _ordinal(call: Call) -> str:
    number = call.get(0)
    ends = {"1": "st", "2": "nd", "3": "rd"}
    return number + ("th" if number[-2:-1] == "1" else ends.get(number[-1:], "th"))


def _numbers(call: Call) -> list[int]:
    return [int(text) for text in call.given if text.isdecimal() and len(text) < 6]


def _date(year: int, month: int, day: int, call: Call) -> str:
    if call.language == "zh":
        return f"{year}年" + (f"{month}月" if month else "") + (f"{day}日" if day else "")
    if not 1 <= month <= 12:
        return str(year)
    if not day:
        return f"{_MONTHS[month - 1]} {year}"
    name = _MONTHS[month - 1]
    return f"{day} {name} {year}" if call.named.get("df", "")[:1] in ("y", "1") else f"{name} {day}, {year}"


def _dated(call: Call) -> str:
    numbers = _numbers(call)
    if not numbers:
        return " ".join(call.texts)
    year, month, day = (*numbers, 0, 0)[:3]
    return _date(year, month, day, call)


def _dated_and_aged(call: Call) -> str:
    """A day of death and the age at it."""
    numbers = _numbers(call)
    if len(numbers) < 6:
        return _dated(call)
    died, born = numbers[:3], numbers[3:6]
    age = died[0] - born[0] - (died[1:] < born[1:])
    told = f"（{age}岁）" if call.language == "zh" else f" (aged {age})"
    return _date(died[0], died[1], died[2], call) + told


def _age(call: Call) -> str:
    numbers = _numbers(call)
    if len(numbers) < 6:
        return " ".join(call.texts)
    return str(numbers[3] - numbers[0] - (numbers[4:6] < numbers[1:3]))


def _as_of(call: Call) -> str:
    if shown := call.named.get("alt"):
        return shown
    if call.language == "zh":
        return "截至" + _dated(call)
    return f"{'as of' if call.named.get('lc') else 'As of'} {_dated(call)}"


def _circa(call: Call) -> str:
    return "c. " + "–".join(call.texts) if call.texts else "c."


def _lifetime(call: Call) -> str:
    """Chinese {{bd|1900年|1月2日|1980年|3月4日}}."""
    texts = [call.get(at) for at in range(4)]
    return f"（{texts[0]}{texts[1]}－{texts[2]}{texts[3]}）"


def _coordinates(call: Call) -> str:
    """Degrees in a sentence; those for the page's head show nothing there."""
    if "inline" not in call.named.get("display", "inline") and call.named.get("display") != "i":
        return ""
    said, marks = "", iter("°′″")
    for text in call.given:
        if text in ("N", "S", "E", "W"):
            said += text + " "
            marks = iter("°′″")
        elif re.fullmatch(r"-?[0-9.]+", text):
            said += text + next(marks, "")
    if not re.search("[NSEW]", said):
        return ", ".join(f"{text}°" for text in call.given if re.fullmatch(r"-?[0-9.]+", text))
    return said.strip()


def _linked(call: Call) -> str:
    """A link to another language's page: its name here, or what is written for it."""
    if label := call.named.get("lt") or call.named.get("d"):
        return label
    if call.name in ("tsl", "translink"):
        return call.get(3) or call.get(2) or call.get(1)
    if (
        call.name.startswith(("internal link helper", "ilh", "ill"))
        and _LANGUAGE.fullmatch(call.get(0))
        and call.get(1)
    ):
        return call.get(3) or call.get(1)
    return call.get(2) if call.name != "ill" and call.get(2) else call.get(0)


def _nihongo(call: Call) -> str:
    told = ", ".join(text for text in (call.get(1), call.get(2), call.get(3)) if text)
    return f"{call.get(0)} ({told})" if call.get(0) and told else call.get(0) or told


def _chinese(call: Call) -> str:
    names = {"c": "Chinese", "s": "simplified Chinese", "t": "traditional Chinese", "p": "pinyin", "w": "Wade–Giles",
             "j": "Jyutping", "l": "literally", "poj": "Pe̍h-ōe-jī"}  # fmt: skip
    told = [f"{names[name]}: {value}" for name, value in call.named.items() if name in names and value]
    return "; ".join(told) or " ".join(call.texts)


def _quoted(call: Call) -> str:
    said = call.named.get("text") or call.named.get("quote") or call.get(0)
    return f"\n{said}\n" if said else ""


def _height(call: Call) -> str:
    named = call.named
    parts = [f"{named[unit]} {unit}" for unit in ("m", "cm", "ft", "in") if named.get(unit)]
    return " ".join(parts) or " ".join(call.texts)


def _money(call: Call) -> str:
    amount, code = call.get(0), call.get(1)
    return f"{amount} {code}".strip()


def _ship(call: Call) -> str:
    prefix = "" if call.name in ("ship", "sclass") else call.name.upper() + " "
    return prefix + " ".join(call.texts[:2] if call.name == "ship" else call.texts[:1])


def _listed(call: Call) -> str:
    return "\n" + "\n".join(call.texts) + "\n" if call.texts else ""


_GROUPS: tuple[tuple[str, Callable[[Call], str]], ...] = (
    ("convert|cvt|conv|轉換|转换", _convert),
    ("val", _value),
    ("frac|sfrac|fraction|分數|分数", _fraction),
    ("circa|c.|ca|ca.", _circa),
    ("birth date|birth date and age|birth-date|bda|dob|start date|start date and age|end date|film date|launch date|"
     "date|dts|birth year and age|birthdate|出生日期|出生日期及年齡|出生日期与年龄", _dated),
    ("death date|death-date", _dated),
    ("death date and age|dda|死亡日期及年齡|死亡日期与年龄|死亡日期與年齡", _dated_and_aged),
    ("age|age in years|年齡|年龄", _age),
    ("as of|asof|截至", _as_of),
    ("bd", _lifetime),
    ("coord|坐标|坐標|座標", _coordinates),
    ("ill|interlanguage link|le|tsl|translink|internal link helper|ilh|link|ill-wd", _linked),
    ("nihongo|nihongo2|nihongo3|korean|日語|日语", _nihongo),
    ("zh|lang-zh|zhi", _chinese),
    ("quote|blockquote|cquote|quotation|quote box|引言|引用", _quoted),
    ("height", _height),
    ("currency|price", _money),
    ("ship|ss|hms|uss|rms|hmas|mv", _ship),
    ("unbulleted list|ubl|plainlist|bulleted list", _listed),
    ("hlist|flatlist", _all(" · ")),
    ("ordinal", _ordinal),
    ("lang|transl|transliteration|script|lang2|url|official url", _last),
    ("abbr|abbreviation|tooltip|nowrap|nobr|nobreak|small|smaller|big|larger|smallcaps|sc|nobold|italic|strong|em|"
     "visible anchor|vanchor|sub|sup|flag|flagcountry|flagdeco|color|mono|code|kbd|var|mvar|math|nwr|resize|ruby|僻字|"
     "cjk|linktext|wikt-lang|red|blue|不换行|不換行|国旗|國旗|flagu|ipa", _first),
    ("gaps|chem|chem2|ce", _all("")),
    ("ipac-en|respell", _all("")),
    ("us$|usd", _before("US$")), ("£|gbp|pound sterling", _before("£")), ("€|eur|euro", _before("€")),
    ("¥|jpy|cny|rmb|人民币|人民幣", _before("¥")), ("inr|₹", _before("₹")), ("a$|aud", _before("A$")),
    ("c$|cad", _before("C$")), ("hk$|hkd", _before("HK$")), ("nt$|twd", _before("NT$")),
    ("nbsp|space|spaces|thinsp|hsp|0|zwsp", _text(" ")), ("snd|spnd|spaced ndash|dash", _text(" – ")),
    ("ndash|–", _text("–")), ("mdash|em dash|—", _text("—")), ("·|dot|middot|bullet|•", _text(" · ")),
    ("!", _text("|")), ("=", _text("=")), ("'", _text("'")), ("\"", lambda call: f"“{call.get(0)}”"),
    ("pagename|fullpagename|basepagename|subpagename", lambda call: call.title),
    ("ad", _before("AD ")), ("bc|bce|前", lambda call: f"{call.get(0)} BC" if call.language == "en" else call.get(0)),
)  # fmt: skip
TEMPLATES: Mapping[str, Callable[[Call], str]] = {name: says for names, says in _GROUPS for name in names.split("|")}
"""What a template says, by its name in small letters."""
