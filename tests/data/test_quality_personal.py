"""Personal data: every kind by its proof, right offsets, and a redaction that is complete and stable."""

from __future__ import annotations

import sys
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban, luhn

from alignment.data.personal import KINDS, Finding, find_personal, load_names, masked, redact
from alignment.data.records import Completion, Judgment, Message, Record, record_id
from alignment.data.redaction import Redactor, record_texts
from alignment.errors import UserError

FOUND = [
    ("EMAIL", "ann.b+c@mail.example.co.uk"),
    ("EMAIL", "jürgen@exämple.de"),
    ("PHONE", "+44 20 7946 0958"),
    ("PHONE", "(415) 555-2671"),
    ("PHONE", "415-555-2671"),
    ("CARD", "4111 1111 1111 1111"),
    ("CARD", "378282246310005"),
    ("CARD", "5555-5555-5555-4444"),
    ("IBAN", "DE89 3704 0044 0532 0130 00"),
    ("IBAN", "GB82WEST12345698765432"),
    ("IBAN", "MT84MALT011000012345MTLCAST001S"),
    ("IP", "203.0.113.77"),
    ("IP", "2001:db8::8a2e:370:7334"),
    ("KEY", "AK" + "IAABCDEFGHIJKLMNOP"),
    ("KEY", "gh" + "p_" + "a1" * 18),
    ("KEY", "s" + "k-" + "Zx9" * 16),
]
HARMLESS = [
    "from 1990-1995, (1914 - 1918), at 2022-10-03 10:00:00",
    "3.14159265358979 and 1,000,000,000 and 10 000 000",
    "4111 1111 1111 1112 fails Luhn's check",
    "DE89 3704 0044 0532 0130 01 fails its checksum",
    "1234567812345670 passes Luhn's check but has no issuer",
    "version 1.2.3.4 on 127.0.0.1, mask 255.255.255.0, std::vector and 12:30:45",
    "user@localhost, @handle, a@b, 2125551234",
    "the sum 12 + 13 - 14 = 11, x = 415/555",
]


@pytest.mark.parametrize(("kind", "value"), FOUND)
def test_each_kind_is_found_where_it_stands(kind: str, value: str) -> None:
    for before, after in (("", ""), ("Write to ", "."), ("(", ")"), ("á: ", ", or so"), ("\n", "\nThanks")):
        text = before + value + after
        [finding] = find_personal(text)
        assert (finding.kind, text[finding.start : finding.end]) == (kind, value)
        assert redact(text) == f"{before}[{kind}]{after}"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it_is_left(text: str) -> None:
    assert find_personal(text) == []


@given(st.integers(10**14, 10**15 - 1))
def test_a_card_is_found_just_if_luhn_says_so(number: int) -> None:
    digits = f"4{number}"
    kinds = {finding.kind for finding in find_personal(f"card {digits} here")}
    assert ("CARD" in kinds) == luhn.is_valid(digits)


@given(st.integers(0, 10**18 - 1), st.integers(0, 99))
def test_an_iban_is_found_just_if_its_checksum_says_so(account: int, check: int) -> None:
    number = f"DE{check:02d}{account:018d}"
    kinds = {finding.kind for finding in find_personal(f"to {number} please")}
    assert ("IBAN" in kinds) == iban.is_valid(number)


PIECES = st.sampled_from([value for _, value in FOUND] + [" ", "\n", "x", ", ", "1", "-", "+", "(", "@", ":"])


@given(st.lists(PIECES, max_size=6).map("".join))
def test_redaction_is_complete_and_stable_and_findings_do_not_overlap(text: str) -> None:
    found = find_personal(text)
    assert all(0 <= f.start < f.end <= len(text) and f.kind in KINDS for f in found)
    assert all(first.end <= second.start for first, second in pairwise(found))
    clean = redact(text)
    assert find_personal(clean) == []
    assert redact(clean) == clean


@given(st.text(max_size=200))
def test_any_text_is_searched_without_harm(text: str) -> None:
    find_personal(text)


def test_a_region_decides_on_national_numbers() -> None:
    assert find_personal("030 901820", region="DE") == [Finding("PHONE", 0, 10)]
    assert find_personal("(415) 555-2671", region=None) == []


def test_a_masked_value_shows_one_character() -> None:
    assert masked("ann@example.org") == "a" + "•" * 12
    assert masked("ab") == "a•"


MAIL = "ann@example.org"


def full_record() -> Record:
    return Record(
        [Message("system", f"You help {MAIL}."), Message("user", "Hi", name=MAIL, parts=[{"text": MAIL}])],
        completions=[
            Completion(content=f"Ask {MAIL} or 415-555-2671."),
            Completion(
                messages=[
                    Message(
                        "assistant",
                        "",
                        tool_calls=[
                            {
                                "id": MAIL,
                                "function": {
                                    "name": "pay",
                                    "arguments": '{"to": "ann@example.org", "card": 4111111111111111}',
                                },
                            }
                        ],
                    ),
                    Message("tool", f"sent to {MAIL}", tool_call_id=MAIL),
                ]
            ),
        ],
        judgments=[
            Judgment(by=MAIL, ranks=[1, 2], rationale=f"{MAIL} is right"),
            Judgment(by="bob@example.org", ranks=[2, 1]),
            Judgment(by="ann-7", ranks=[1, 1]),
        ],
        tools=[{"description": f"pays {MAIL}"}],
        meta={"raw": {"chosen": MAIL}, "image": "data:image/png;base64," + "A" * 300},
    )


def test_every_text_of_a_record_is_redacted_and_its_ids_stay() -> None:
    record = full_record()
    redactor = Redactor()
    clean = redactor.redacted(record)
    assert redactor.places(clean) == []
    assert clean.id == record_id(record)
    assert [judgment.by for judgment in clean.judgments] == ["[EMAIL-1]", "[EMAIL-2]", "ann-7"]
    assert clean.judgments[0].ranks == [1, 2]
    assert clean.completions[0].content == "Ask [EMAIL] or [PHONE]."
    turn, answer = clean.completions[1].turns()
    assert turn.tool_calls is not None
    assert turn.tool_calls[0] == {
        "id": MAIL,
        "function": {"name": "pay", "arguments": '{"to": "[EMAIL]", "card": "[CARD]"}'},
    }
    assert (answer.content, answer.tool_call_id) == ("sent to [EMAIL]", MAIL)
    assert clean.tools == [{"description": "pays [EMAIL]"}]
    assert clean.meta == {"raw": {"chosen": "[EMAIL]"}, "image": record.meta["image"]}
    assert redactor.redacted(clean) == clean
    fields = {field for field, _ in record_texts(record)}
    assert {"prompt.content", "completions.content", "judgments.by", "judgments.rationale", "meta"} <= fields
    assert all(MAIL not in place.masked for place in redactor.places(record))


def test_a_clean_record_is_given_back_as_it_is() -> None:
    record = Record([Message("user", "Hello")])
    assert Redactor().redacted(record) is record


def stub(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    module = ModuleType("spacy")
    module.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spacy", module)


def test_names_come_from_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipeline(text: str) -> Any:
        at = text.find("Ann Lee")
        found = [SimpleNamespace(label_="PERSON", start_char=at, end_char=at + 7)] if at >= 0 else []
        return SimpleNamespace(ents=found)

    stub(monkeypatch, lambda name: pipeline)
    names = load_names()
    assert redact(f"Ann Lee, {MAIL}", names=names) == "[NAME], [EMAIL]"


def test_what_names_need_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    stub(monkeypatch, missing)
    with pytest.raises(UserError, match="spacy download xx_small"):
        load_names("xx_small")
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(UserError, match=r"alignkit\[pii\]"):
        load_names()
