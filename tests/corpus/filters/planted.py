"""Made-up identifiers that are valid by their rules, set into sentences: what a masker should find.

Check digits are computed here by each number's own rule, apart from the code under test.
"""

import random
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

Maker = Callable[[random.Random], str]


@dataclass(frozen=True)
class Planted:
    """A text in which one identifier lies from `start` to `end`."""

    kind: str
    form: str
    text: str
    start: int
    end: int

    @property
    def identifier(self) -> str:
        return self.text[self.start : self.end]


def planted(count: int, sentences: Sequence[str], seed: int = 1) -> Iterator[Planted]:
    """`count` of each form, each between two words of one of `sentences` (two characters, where it's Chinese)."""
    rng = random.Random(seed)
    for (kind, form), (before, make) in FORMS.items():
        for _ in range(count):
            gap = ""
            while not gap:
                sentence = rng.choice(sentences)
                place = rng.randrange(len(sentence) + 1)
                gap = _gap(sentence, place)
            identifier, left = make(rng), sentence[:place] + gap.replace("|", "") + before
            text = left + identifier + gap.replace("|", "") + sentence[place:].lstrip(" ")
            yield Planted(kind, form, text, len(left), len(left) + len(identifier))


def _gap(sentence: str, place: int) -> str:
    """What parts an identifier from both its neighbours: a blank, nothing ("|"); "" where none can stand."""
    left, right = sentence[place - 1 : place], sentence[place : place + 1]
    if right in "元万亿":
        return ""  # what stands before is an amount
    if any("一" <= char <= "鿿" for char in left + right) and not any(char.isascii() for char in left + right):
        return "|"
    words = sentence[:place].split()[-1:] + sentence[place:].split()[:1]
    return " " if right == " " and len(words) == 2 and all(word.isalpha() for word in words) else ""


def digits(rng: random.Random, count: int, first: str = string.digits) -> str:
    return rng.choice(first) + "".join(rng.choices(string.digits, k=count - 1))


def grouped(number: str, sizes: Sequence[int], separator: str) -> str:
    parts, place = list[str](), 0
    for size in sizes:
        parts.append(number[place : place + size])
        place += size
    assert place == len(number)
    return separator.join(parts)


def wide(text: str) -> str:
    """In full-width characters."""
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


# E-mail and IP addresses


def email(rng: random.Random) -> str:
    local = rng.choice("abcdefghijkl") + "".join(
        rng.choices(string.ascii_lowercase + string.digits, k=rng.randint(2, 12))
    )
    local += rng.choice(["", ".smith", "_x", "-li", "+news", "99", ".Müller"])
    host = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 10)))
    top = rng.choice([".com", ".org", ".co.uk", ".com.cn", ".info", ".de"])
    return f"{local}@{rng.choice(['', '', 'mail.', 'cs.'])}{host}{top}"


def spelt_email(rng: random.Random) -> str:
    at, dot = rng.choice([(" [at] ", " [dot] "), ("(at)", "(dot)"), (" (at) ", " (dot) "), ("[at]", ".")])
    return f"{rng.choice(['anna', 'j.li', 'bob'])}{digits(rng, 3)}{at}example{dot}{rng.choice(['com', 'org', 'edu'])}"


def ipv4(rng: random.Random) -> str:
    first = rng.choice([n for n in range(1, 224) if n != 127])
    return ".".join(str(octet) for octet in (first, *(rng.randint(0, 255) for _ in range(3))))


def ipv6(rng: random.Random) -> str:
    groups = [f"{rng.choice([0x2001, 0x2A02, 0x2408, 0xFE80, 0xFD12]):x}"] + [
        f"{rng.getrandbits(16):x}" for _ in range(7)
    ]
    if rng.random() < 0.5:
        return ":".join(groups)
    keep = rng.randint(1, 4)
    return ":".join(groups[:keep]) + "::" + ":".join(groups[8 - rng.randint(1, 3) :])


# Telephones


def north_american(rng: random.Random, form: str) -> str:
    area = digits(rng, 1, "23456789") + rng.choice("02345678") + digits(rng, 1)
    exchange = digits(rng, 1, "23456789") + rng.choice("0234567") + digits(rng, 1)
    return form.format(area, exchange, digits(rng, 4))


def from_form(form: str) -> Maker:
    """`d` is a digit, `n` one of 1 to 9; all else is itself."""

    def make(rng: random.Random) -> str:
        return "".join({"d": digits(rng, 1), "n": digits(rng, 1, "123456789")}.get(char, char) for char in form)

    return make


def chinese_mobile(rng: random.Random) -> str:
    return "1" + rng.choice("3456789") + digits(rng, 9)


# Cards and identity numbers


def luhn_card(rng: random.Random, prefixes: Sequence[str], length: int) -> str:
    number = rng.choice(prefixes)
    number += "".join(rng.choices(string.digits, k=length - 1 - len(number)))
    return next(number + d for d in string.digits if _luhn_sum(number + d) % 10 == 0)


def _luhn_sum(number: str) -> int:
    total = 0
    for place, char in enumerate(reversed(number)):
        value = int(char) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total


def birthday(rng: random.Random) -> date:
    return date(1930, 1, 1) + timedelta(days=rng.randrange(365 * 80))


def chinese_id(rng: random.Random) -> str:
    body = rng.choice(["110105", "310115", "440305", "510104", "330106", "650102", "820000"])
    body += birthday(rng).strftime("%Y%m%d") + digits(rng, 3)
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(w * int(d) for w, d in zip(weights, body)) % 11]


def chinese_id_of_15(rng: random.Random) -> str:
    return rng.choice(["110105", "310115", "440305"]) + birthday(rng).strftime("%y%m%d") + digits(rng, 3)


def hong_kong_id(rng: random.Random) -> str:
    letter, number = rng.choice(string.ascii_uppercase), digits(rng, 6)
    total = 36 * 9 + (ord(letter) - 55) * 8 + sum(int(d) * w for d, w in zip(number, (7, 6, 5, 4, 3, 2)))
    return f"{letter}{number}({'0123456789A'[-total % 11]})"


def taiwan_id(rng: random.Random) -> str:
    code, body = rng.choice([("A", 10), ("B", 11), ("F", 15), ("H", 17), ("N", 22), ("I", 34), ("Z", 33)]), ""
    body = rng.choice("12") + digits(rng, 7)
    total = code[1] // 10 + code[1] % 10 * 9 + sum(int(d) * w for d, w in zip(body, range(8, 0, -1)))
    return code[0] + body + str(-total % 10)


def social_security(rng: random.Random) -> str:
    area = rng.choice([n for n in range(1, 900) if n != 666])
    return f"{area:03}-{rng.randint(1, 99):02}-{rng.randint(1, 9999):04}"


def spanish_id(rng: random.Random) -> str:
    number = rng.randrange(10**8)
    return f"{number:08}{rng.choice(['', '-'])}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def spanish_foreigners_id(rng: random.Random) -> str:
    letter, number = rng.randrange(3), rng.randrange(10**7)
    return f"{'XYZ'[letter]}{number:07}{'TRWAGMYFPDXBNJZSQVHLCKE'[(letter * 10**7 + number) % 23]}"


def french_id(rng: random.Random) -> str:
    body = f"{rng.choice('12')}{rng.randrange(100):02}{rng.randint(1, 12):02}{rng.randint(1, 95):02}{digits(rng, 6)}"
    number = f"{body}{97 - int(body) % 97:02}"
    return grouped(number, (1, 2, 2, 2, 3, 3, 2), rng.choice(["", " "]))


def brazilian_id(rng: random.Random) -> str:
    body = digits(rng, 9)
    for _ in range(2):
        rest = sum(int(d) * w for d, w in zip(body, range(len(body) + 1, 1, -1))) % 11
        body += str(0 if rest < 2 else 11 - rest)
    return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"


def _joined(make: Maker, sizes: Sequence[int], separator: str, before: str = "") -> Maker:
    return lambda rng: before + grouped(make(rng), sizes, separator)


def _north_american(form: str) -> Maker:
    return lambda rng: north_american(rng, form)


def _card(prefixes: Sequence[str], length: int) -> Maker:
    return lambda rng: luhn_card(rng, prefixes, length)


_VISA = _card(["4"], 16)
_UNIONPAY = _card(["622", "621", "625"], 19)
FORMS: dict[tuple[str, str], tuple[str, Maker]] = {
    ("email", "plain"): ("", email),
    ("email", "full width"): ("", lambda rng: wide(email(rng).replace("ü", "u"))),
    ("email", "spelt"): ("", spelt_email),
    ("ip", "IPv4"): ("", ipv4),
    ("ip", "IPv6"): ("", ipv6),
    **{
        ("phone", f"+1 {form}"): ("", _north_american(form))
        for form in ("+1 {}-{}-{}", "+1 ({}) {}-{}", "+1{}{}{}", "+1.{}.{}.{}", "1-{}-{}-{}")
    },
    **{
        ("phone", f"North America {form}"): ("", _north_american(form))
        for form in ("({}) {}-{}", "({}){}-{}", "{}-{}-{}", "{}.{}.{}", "{} {} {}", "{}-{}-{} ext. 12")
    },
    ("phone", "North America announced"): ("Tel. ", _north_american("{}{}{}")),
    **{
        ("phone", form): ("", from_form(form))
        for form in (
            "+44 20 nddd dddd", "+44 (0)n0n ddd dddd", "+447ddddddddd", "0044 20 nddd dddd",
            "+33 n dd dd dd dd", "+33 (0)n dd dd dd dd", "+49 30 nddddd", "+49 (0)171 nddddddd", "+49-89-nddd-dddd",
            "+34 6dd ddd ddd", "+39 06 nddd dddd", "+31 6 nddddddd", "+48 ndd ddd ddd",
            "+81 3-nddd-dddd", "+852 nddd dddd", "+886 2 nddd dddd", "+91 9dddd ddddd", "+7 (9dd) ddd-dd-dd",
            "+353 1 ndd dddd", "+420 ndd ddd ddd",
            "020 nddd dddd", "(020) nddd dddd", "0nnn ndd dddd", "07ddd dddddd", "07ddddddddd", "01234 nddddd",
            "0n dd dd dd dd", "0n.dd.dd.dd.dd", "06dddddddd", "030 ndddddd", "0171/nddddddd",
            "(089) ndddddd", "03-nddd-dddd", "0912-ddd-ddd",
        )
    },
    ("phone", "Spain announced"): ("Tel: ", from_form("6dd ddd ddd")),
    ("phone", "Poland announced"): ("phone ", from_form("22 ndd dd dd")),
    ("phone", "Hong Kong announced"): ("电话：", from_form("nddd dddd")),
    ("phone", "China mobile"): ("", chinese_mobile),
    ("phone", "China mobile 3 4 4"): ("", _joined(chinese_mobile, (3, 4, 4), " ")),
    ("phone", "China mobile 3-4-4"): ("", _joined(chinese_mobile, (3, 4, 4), "-")),
    ("phone", "China mobile 4-3-4"): ("", _joined(chinese_mobile, (4, 3, 4), "-")),
    ("phone", "China mobile +86"): ("", _joined(chinese_mobile, (11,), "", "+86")),
    ("phone", "China mobile +86 3 4 4"): ("", _joined(chinese_mobile, (3, 4, 4), " ", "+86 ")),
    ("phone", "China mobile (+86)"): ("", _joined(chinese_mobile, (11,), "", "(+86)")),
    ("phone", "China mobile 0086"): ("", _joined(chinese_mobile, (11,), "", "0086")),
    ("phone", "China mobile 0086-"): ("", _joined(chinese_mobile, (3, 4, 4), "-", "0086-")),
    ("phone", "China mobile 86-"): ("", _joined(chinese_mobile, (11,), "", "86-")),
    ("phone", "China mobile full width"): ("", lambda rng: wide(chinese_mobile(rng))),
    **{
        ("phone", f"China {form}"): ("", from_form(form))
        for form in (
            "010-nddddddd", "(010)nddddddd", "（021）nddddddd", "0755-nddddddd", "0571-nddddddd", "0311 nddddddd",
            "0852-ndddddd", "010 nddd dddd", "021nddddddd", "010-nddddddd转ddd",
            "+86 10 nddd dddd", "+86-21-nddddddd", "400-8nn-dddd",
        )
    },
    ("card", "Visa"): ("", _VISA),
    ("card", "Visa 4 4 4 4"): ("", _joined(_VISA, (4, 4, 4, 4), " ")),
    ("card", "Visa 4-4-4-4"): ("", _joined(_VISA, (4, 4, 4, 4), "-")),
    ("card", "Visa of 13"): ("", _card(["4"], 13)),
    ("card", "Visa full width"): ("", lambda rng: wide(_VISA(rng))),
    ("card", "Mastercard"): ("", _card(["51", "55", "2221", "2720"], 16)),
    ("card", "American Express"): ("", _card(["34", "37"], 15)),
    ("card", "American Express 4 6 5"): ("", _joined(_card(["34", "37"], 15), (4, 6, 5), " ")),
    ("card", "Diners Club 4 6 4"): ("", _joined(_card(["36", "305"], 14), (4, 6, 4), " ")),
    ("card", "Discover, JCB"): ("", _card(["6011", "65", "3530"], 16)),
    ("card", "UnionPay"): ("", _UNIONPAY),
    ("card", "UnionPay 4 4 4 4 3"): ("", _joined(_UNIONPAY, (4, 4, 4, 4, 3), " ")),
    ("card", "UnionPay 6 13"): ("", _joined(_UNIONPAY, (6, 13), " ")),
    ("id", "China"): ("", chinese_id),
    ("id", "China 6 8 4"): ("", _joined(chinese_id, (6, 8, 4), " ")),
    ("id", "China full width"): ("", lambda rng: wide(chinese_id(rng))),
    ("id", "China, 15 digits"): ("身份证号：", chinese_id_of_15),
    ("id", "Hong Kong"): ("", hong_kong_id),
    ("id", "Taiwan"): ("", taiwan_id),
    ("id", "United States"): ("", social_security),
    ("id", "United States announced"): ("SSN ", lambda rng: social_security(rng).replace("-", "")),
    ("id", "Spain"): ("", spanish_id),
    ("id", "Spain, foreigners"): ("", spanish_foreigners_id),
    ("id", "France"): ("", french_id),
    ("id", "Brazil"): ("", brazilian_id),
}  # fmt: skip
"""For each kind and form, the words that announce it and how one is made."""
