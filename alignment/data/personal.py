"""Personal data and secrets in texts: e-mail, phone, card, IBAN, IP address, API key; names through spaCy.

    find_personal("Write to ann@example.org")   # [Finding(kind="EMAIL", start=9, end=24)]
    redact("Write to ann@example.org")          # "Write to [EMAIL]"

Candidates come from a cheap pattern and are then proved: a card by its issuer and Luhn's check, an IBAN by
its country's form and checksum (python-stdnum), a phone number by its country's numbering plan
(phonenumbers), an address by `ipaddress`. A text without an "@", a group of digits or a key's prefix costs
a few microseconds.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from alignment.errors import UserError

# Where two overlap, the earlier of this order stands.
KINDS = ("KEY", "EMAIL", "IBAN", "CARD", "IP", "PHONE", "NAME")
REGION = "US"  # whose national phone numbers are known without a country code
Names = Callable[[str], Any]

_KEY = re.compile(
    r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[0-9A-Za-z]{36,255}|github_pat_[0-9A-Za-z_]{40,255}"
    r"|hf_[0-9A-Za-z]{30,64}|sk-(?:ant-|proj-|svcacct-)?[0-9A-Za-z_-]{20,200}|xox[abprs]-[0-9A-Za-z-]{10,100}"
    r"|AIza[0-9A-Za-z_-]{35}|[rs]k_live_[0-9A-Za-z]{16,120}|glpat-[0-9A-Za-z_-]{20,60})"
    r"|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,20000}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
)
_EMAIL = re.compile(r"(?<![\w.%+'-])[\w%+'-][\w.%+'-]{0,63}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w@])")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_CARD = re.compile(r"(?<![\w.,-])[2-6](?:[ -]?\d){12,18}(?![\w-])")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_PHONE = re.compile(
    r"(?<![\w.,/=-])(?:\+|\(\d{1,5}\)|\d)[\d ().\-/\u2010-\u2015\u00a0]{4,22}\d(?![\w/]|[.,-]\d)"
)
# What tells, cheaply, a text that can hold none of a kind.
_KEY_STARTS = (
    "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "hf_", "sk-", "xox", "AIza",
    "k_live_", "glpat-", "PRIVATE KEY",
)  # fmt: skip
_DIGITS = re.compile("[0-9][0-9 ().\\-/\u2010-\u2015\u00a0]{5}")
_COLONS = re.compile("[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:|::[0-9A-Fa-f]")


class Finding(NamedTuple):
    """Personal data of a kind (see KINDS) at text[start:end]."""

    kind: str
    start: int
    end: int


def find_personal(text: str, region: str | None = REGION, names: Names | None = None) -> list[Finding]:
    """What is personal in a text, in order and without overlap.

    region: the country (two letters) whose national phone numbers are found; None finds only those that
        start with "+". names: a spaCy pipeline (`load_names`), which finds people's names.
    """
    found = list(_proved(text, region))
    if names is not None:
        people = (entity for entity in names(text).ents if entity.label_ in ("PERSON", "PER"))
        found += [Finding("NAME", person.start_char, person.end_char) for person in people]
    found.sort(key=lambda finding: KINDS.index(finding.kind))
    kept: list[Finding] = []
    for finding in found:
        if not any(finding.start < other.end and other.start < finding.end for other in kept):
            kept.append(finding)
    return sorted(kept, key=lambda finding: finding.start)


def _proved(text: str, region: str | None) -> Iterator[Finding]:
    if any(start in text for start in _KEY_STARTS):
        for match in _KEY.finditer(text):
            yield Finding("KEY", *match.span())
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Finding("EMAIL", *match.span())
    if text.count(":") > 1 and _COLONS.search(text):
        for match in _IPV6.finditer(text):
            if _is_address(match.group()):
                yield Finding("IP", *match.span())
    if _DIGITS.search(text):
        yield from _numeric(text, region)


def _numeric(text: str, region: str | None) -> Iterator[Finding]:
    for match in _IBAN.finditer(text):
        end = _iban_end(match.group())
        if end:
            yield Finding("IBAN", match.start(), match.start() + end)
    for match in _CARD.finditer(text):
        if _is_card(match.group()):
            yield Finding("CARD", *match.span())
    for match in _IPV4.finditer(text):
        version = _VERSION.search(text[max(0, match.start() - 10) : match.start()])
        if version is None and _is_address(match.group()):
            yield Finding("IP", *match.span())
    for match in _PHONE.finditer(text):
        for start, end in _phones(match.group(), region):
            yield Finding("PHONE", match.start() + start, match.start() + end)


def _iban_end(candidate: str) -> int:
    """How many characters of the candidate are a valid IBAN: words in capitals may follow it; 0 if none."""
    from stdnum import iban

    while True:
        if iban.is_valid(candidate):
            return len(candidate)
        candidate = candidate.rpartition(" ")[0]
        if len(candidate) < 15:
            return 0


def _is_card(candidate: str) -> bool:
    """An issuer's prefix and length, and Luhn's check digit."""
    from stdnum import luhn

    digits = candidate.replace(" ", "").replace("-", "")
    return luhn.is_valid(digits) and _ISSUER.fullmatch(digits) is not None


# Visa, Mastercard, American Express, Discover, Diners Club, JCB, UnionPay, Maestro.
_ISSUER = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12}(?:\d{3})?|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}"
    r"|62\d{14,17}|(?:50|5[6-9]|6[37])\d{10,17}"
)


def _is_address(candidate: str) -> bool:
    """An address of some machine: not the loopback, the unspecified one, nor a netmask."""
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or candidate.startswith("255."))


_VERSION = re.compile(r"(?:version|release|build|ver\.?|v\.?|section|chapter|§)\s?$", re.IGNORECASE)


def _phones(candidate: str, region: str | None) -> Iterator[tuple[int, int]]:
    """Where in the candidate valid numbers are, of the country they name or of `region`.

    A bare run of digits is a number like any other, so a national one must be grouped as its country does.
    """
    international = "+" in candidate
    if not international and (region is None or candidate.isdigit()):
        return
    if sum(character.isdigit() for character in candidate) < 7:
        return
    import phonenumbers

    leniency = phonenumbers.Leniency.VALID if international else phonenumbers.Leniency.STRICT_GROUPING
    for match in phonenumbers.PhoneNumberMatcher(candidate, region, leniency):
        if match.raw_string.startswith("+") or not match.raw_string.isdigit():
            yield match.start, match.end


def redact(text: str, region: str | None = REGION, names: Names | None = None) -> str:
    """The text with a placeholder such as [EMAIL] for each finding; redacting again changes nothing."""
    while found := find_personal(text, region, names):
        parts, at = [], 0
        for finding in found:
            parts += [text[at : finding.start], f"[{finding.kind}]"]
            at = finding.end
        text, before = "".join([*parts, text[at:]]), text
        if text == before:
            break
        names = None  # a placeholder is no name, whatever a model makes of it
    return text


def masked(text: str) -> str:
    """A found value, told by its first character and its length alone: "a••••••" ."""
    return text[:1] + "•" * min(len(text) - 1, 12)


def load_names(pipeline: str = "en_core_web_sm") -> Names:
    """The spaCy pipeline that finds names. Raises UserError if spaCy or the pipeline is not installed."""
    try:
        import spacy
    except ModuleNotFoundError:
        raise UserError('--names needs spaCy; install it: pip install "alignkit[pii]"') from None
    try:
        loaded: Names = spacy.load(pipeline)
    except OSError:
        raise UserError(
            f"--names: the spaCy pipeline {pipeline} is not installed; "
            f"install it: python -m spacy download {pipeline}"
        ) from None
    return loaded
