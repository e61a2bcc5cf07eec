"""E-mail and IP addresses, looked for from their rarest character: text without an @ or a dotted number costs one scan.

An IPv4 address looks like a version, or an outline's number. After "version", "firmware", "section" … it is none. Of a
number under 60 (but 10) and three under 20, it is one after "address", "host", "DNS" … only. The unspecified, loopback,
multicast and reserved ranges (RFC 6890), and so netmasks, point to nobody. Of IPv6 the ranges that hosts have are taken
(RFC 4291): global 2000::/3, unique local fc00::/7, link-local fe80::/10, mapped and translated IPv4.
"""

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv6Address

from pipeline.corpus.filters.identifiers.edges import Span, announced_by, told

_LATIN = "".join(char for char in map(chr, range(0xC0, 0x250)) if char.isalpha())
_LOCAL = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._%+'-" + _LATIN
_LOCAL_LENGTH = 64  # RFC 5321, 4.5.3.1
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NO_TLD = (
    r"(?:service|socket|target|timer|path|slice|scope|mount|device|swap|conf"  # of systemd: getty@tty1.service
    r"|png|jpe?g|gif|webp|svg|css|js|ts|json|xml|html?|php|ya?ml|txt)(?![0-9A-Za-z])"  # files: icon@2x.png
)
_TLD = rf"(?!{_NO_TLD})(?:[A-Za-z]{{2,24}}|xn--[A-Za-z0-9-]{{2,59}})(?![0-9A-Za-z_]|-[0-9A-Za-z])"
_AT = re.compile(rf"(?:@|[\[(]at[\])] ?)(?:{_LABEL}(?:\.| ?[\[(](?:dot|\.)[\])] ?)){{1,8}}{_TLD}")
_DOTTED = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(
    rf"(?<![0-9A-Za-z_])(?<![0-9A-Za-z][.])(?<![A-Za-z]-){_OCTET}(?:\.{_OCTET}){{3}}"
    r"(?![0-9A-Za-z_]|\.[0-9]|-[A-Za-z]|-[0-9]{1,2}(?![0-9.]))"
)
_VERSION = re.compile(
    r"(?:(?<![A-Za-z])(?:versions?|ver\.?|releases?|firmware|builds?|revision|rev\.?|driver|kernel|linux|patch|player|chrome"
    r"|firefox|sections?|sec\.|chapter|clause|appendix|rfc|oid)|§|版本|版|固件|第|章|节)[^0-9A-Za-z\n]{0,3}\Z",
    re.IGNORECASE,
)
_HOST = announced_by(
    "IPs?|IPv4|address(?:es)?|addr|hosts?|servers?|DNS|ping|gateway|router|inet", "地址|主机|服务器|网关"
)
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV6 = re.compile(
    r"(?<![0-9A-Za-z_:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,8}(?:(?:\.[0-9]{1,3}){3})?(?![0-9A-Za-z_:]|\.[0-9])"
)


def emails(text: str) -> Iterator[Span]:
    """E-mail addresses: "a@b.org", and spelt "a [at] b [dot] org" where at and dot stand in brackets."""
    end = 0
    for match in _AT.finditer(text):
        before = text[max(end, match.start() - _LOCAL_LENGTH - 1) : match.start()]
        written = before if match[0][0] == "@" else before.removesuffix(" ")
        local = written[len(written.rstrip(_LOCAL)) :].lstrip(".%'-")
        if local:
            start = match.start() - (len(before) - len(written)) - len(local)
            yield start, (end := match.end())


def ip_addresses(text: str) -> Iterator[Span]:
    """IPv4 and IPv6 addresses in order, without port, prefix length or zone; one may end in another: ::ffff:1.2.3.4."""
    end = 0
    for start, stop in sorted((*(_ipv6(text) if ":" in text else ()), *_ipv4(text))):
        if start >= end:
            yield start, (end := stop)


def _ipv4(text: str) -> Iterator[Span]:
    position = 0
    while dotted := _DOTTED.search(text, position):
        start = dotted.start()
        start -= len(text[max(0, start - 3) : start]) - len(text[max(0, start - 3) : start].rstrip("0123456789"))
        match = _IPV4.match(text, start)
        if match and _points_to_a_host(text, match):
            yield match.span()
            position = match.end()
        else:
            position = dotted.start() + 1


def _points_to_a_host(text: str, match: re.Match[str]) -> bool:
    octets = [int(octet) for octet in match[0].split(".")]
    if octets[0] in (0, 127) or octets[0] >= 224 or told(text, match.start(), _VERSION):
        return False
    looks_like_an_outline = octets[0] < 60 and octets[0] != 10 and max(octets[1:]) < 20
    return not looks_like_an_outline or told(text, match.start(), _HOST)


def _ipv6(text: str) -> Iterator[Span]:
    position = 0
    while colons := _COLONS.search(text, position):
        start = colons.start()
        start -= len(text[max(0, start - 4) : start]) - len(
            text[max(0, start - 4) : start].rstrip("0123456789abcdefABCDEF")
        )
        match = _IPV6.match(text, start)
        written = match[0] if match else ""
        if written.endswith(":") and not written.endswith("::"):
            written = written[:-1]  # a sentence's
        if _is_a_hosts_ipv6(written):
            yield start, (position := start + len(written))
        else:
            position = colons.start() + 1


def _is_a_hosts_ipv6(written: str) -> bool:
    try:
        address = IPv6Address(written)
    except AddressValueError:
        return False
    if address.ipv4_mapped is not None or written.lower().startswith("64:ff9b::"):
        return True
    first = written.partition(":")[0]
    return len(first) == 4 and (0x2000 <= (head := int(first, 16)) <= 0x3FFF or 0xFC00 <= head <= 0xFEBF)
