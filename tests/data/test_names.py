"""Names that look alike: pairs by hand, and what holds for all names."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eus_ray.data.names import alike, alike_key, composed, is_writable, near, rounded, shown

ALIKE = [
    ("Müller", "Mu\u0308ller", "encoding"),
    ("Ｐ０１", "P01", "encoding"),  # full width
    ("ﬁbroid", "fibroid", "encoding"),
    ("T²", "T2", "encoding"),
    ("P01", "P01\u200b", "invisible characters"),  # zero-width space
    ("P01", "\ufeffP01", "invisible characters"),
    ("P01", "P\u00ad01", "invisible characters"),  # soft hyphen
    ("P01", "P01\x1f", "invisible characters"),
    ("Mu\u200b\u0308ller", "Müller", "encoding and invisible characters"),
    ("P01", "p01", "case"),
    ("STRASSE", "straße", "case"),
    ("ΣΑΣ", "σας", "case"),
    ("T2", "T 2", "blanks"),
    ("T2", "T\u00a02", "blanks"),  # no-break space, which NFKC makes a blank
    ("T2", " T2\t", "blanks"),
    ("T2", "T\u20092", "blanks"),
    ("T2", "Т2", "look-alike letters"),
    ("BIRADS", "ВІRАDЅ", "look-alike letters"),
    ("ABE", "ΑΒΕ", "look-alike letters"),  # Greek
    ("á1", "а\u03011", "encoding and look-alike letters"),
    ("P-01", "P01", "hyphens"),
    ("P_01", "P01", "hyphens"),
    ("P-01", "P_01", "hyphens"),
    ("P\u201001", "P-01", "hyphens"),
    ("P\u201301", "P-01", "hyphens"),
    ("P\u221201", "P-01", "hyphens"),
    ("1\u20132", "1-2", "hyphens"),
    ("1_2", "1-2", "hyphens"),
    ("1-a", "1a", "hyphens"),
    ("P-a", "P--a", "hyphens"),
    ("1", "01", "leading zeros"),
    ("P1", "P001", "leading zeros"),
    ("1-2", "1-02", "leading zeros"),
    ("7", "7.0", "decimals"),
    ("7", "7.00", "decimals"),
    ("P-01", "p1", "case, hyphens and leading zeros"),
    ("P 01", "p_1", "case, blanks, hyphens and leading zeros"),
    ("07", "7.0", "leading zeros and decimals"),
]
OTHERS = [
    ("1-2", "12"),
    ("1_2", "12"),
    ("1.05", "1.5"),
    ("10", "1"),
    ("100", "10"),
    ("ER-", "ER+"),
    ("ER-", "ER"),
    ("-5", "5"),
    ("P1_10", "P11_0"),
    ("P1-1", "P11"),
    ("Müller", "Muller"),
    ("P1", "P2"),
    ("7.5", "75"),
    ("7.0", "70"),
    ("a.b", "ab"),
    ("a/b", "ab"),
    ("Ö", "O"),
    ("中文", "中"),
    ("", "0"),
]


@pytest.mark.parametrize(("one", "other", "reasons"), ALIKE)
def test_names_that_look_alike_are_told_with_the_reason(one: str, other: str, reasons: str) -> None:
    assert alike_key(one) == alike_key(other)
    line = f"patients {shown(one)} and {shown(other)} differ in {reasons} only; they are taken as 2 patients"
    assert alike("patient", [one, other, one, "else"]) == [line]
    assert near(one, ["else", one, other]) == other
    assert near(other, ["else", one, other]) == one


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_names_that_do_not_look_alike_are_not_told(one: str, other: str) -> None:
    assert alike_key(one) != alike_key(other)
    assert alike("patient", [one, other]) == []
    assert near(one, [one, other]) is None


def test_many_names() -> None:
    assert alike("category", ["a", "A", "b"]) == [
        "categories a and A differ in case only; they are taken as 2 categories"
    ]
    group = ["1", "01", "001", "0001", "00001", "000001"]
    (line,) = alike("patient", group)
    assert line == (
        "patients 1, 01, 001, 0001 and 00001 ... differ in leading zeros only; they are taken as 6 patients"
    )
    pairs = [name for number in range(1, 8) for name in (str(number), f"0{number}")]
    (line,) = alike("patient", pairs)
    assert line.startswith("patients 1 and 01 differ in leading zeros only")
    assert line.endswith("(6 more such groups of patients)")
    assert alike("patient", []) == []


def test_numbers_that_a_spreadsheet_rounded() -> None:
    for name in ("1.23457E+11", "1,2E+15", "1E+20", "2e15", "1234567890123450", "12345678901234500000"):
        (line,) = rounded("patient", ["7", name, name])
        assert line == (
            f"patient {name} looks like a number that a spreadsheet rounded: several names may have become one; "
            "store these as text"
        )
    assert "rounded (1 more such names): several" in rounded("patient", ["1E+11", "2E+11"])[0]
    for name in ("7", "1.5", "123456789012345", "1234567890123456", "P1E2", "E5", "10000", ""):
        assert rounded("patient", [name]) == []


def test_names_for_print_and_for_the_disk() -> None:
    assert shown("P\u200b1\u00a0\n") == "P\\u200b1\\xa0\\n"
    assert shown("Müller 中文") == "Müller 中文"
    assert shown(b"\xe9cho".decode(errors="surrogateescape")) == "\\udce9cho"
    assert not is_writable(b"\xe9cho.png".decode(errors="surrogateescape"))
    assert is_writable("Müller 中文.png")


# ---- for all names ----------------------------------------------------------------------------------

MANY = settings(max_examples=300, derandomize=True, deadline=None)
letters = st.sampled_from("aAbPpßſµÅåΣσςİıТтАаΑα012９²²-_–−. \t\u00a0\u200b\u00ad\u0308\u0301\u0345ÖöÔ中ﬁⅣ½")
names = st.text(letters | st.characters(), max_size=8)


@MANY
@given(name=names)
def test_a_form_is_its_own_form(name: str) -> None:
    assert composed(composed(name)) == composed(name)
    assert unicodedata.is_normalized("NFC", composed(name))
    assert alike_key(alike_key(name)) == alike_key(name)
    assert shown(name).isprintable()


@MANY
@given(one=names, other=names)
def test_alike_does_not_depend_on_the_order(one: str, other: str) -> None:
    lines = alike("patient", [one, other])
    assert bool(lines) == bool(alike("patient", [other, one])) == (one != other and alike_key(one) == alike_key(other))
    assert (near(one, [other]) == other) == (near(other, [one]) == one) == bool(lines)
    assert all(line.isprintable() for line in lines)


@MANY
@given(drawn=st.lists(names, max_size=8), seed=st.randoms(use_true_random=False))
def test_an_order_changes_only_the_order(drawn: list[str], seed: object) -> None:
    def groups(lines: list[str]) -> list[list[str]]:
        return sorted(sorted(line) for line in lines)

    mixed = list(drawn)
    seed.shuffle(mixed)  # type: ignore[attr-defined]
    if len({alike_key(name) for name in drawn}) >= len(set(drawn)) - 5:  # else examples are left out
        assert groups(alike("patient", mixed)) == groups(alike("patient", drawn))


VARIANTS = {
    "encoding": lambda name: unicodedata.normalize("NFD", name),
    "invisible characters": lambda name: name + "\u200b",
    "case": str.swapcase,
    "blanks": lambda name: f" {name}",
    "hyphens": lambda name: name.replace("P", "P-"),
    "leading zeros": lambda name: name.replace("P", "P00"),
}


@MANY
@given(number=st.integers(1, 10**6), kinds=st.lists(st.sampled_from(sorted(VARIANTS)), min_size=1, unique=True))
def test_each_difference_is_named_and_no_other(number: int, kinds: list[str]) -> None:
    name = changed = f"éP{number}"
    kinds.sort(key="leading zeros, hyphens, case, blanks, invisible characters, encoding".index)
    for kind in kinds:
        changed = VARIANTS[kind](changed)
    told = [kind for kind in VARIANTS if kind in kinds]
    listed = f"{', '.join(told[:-1])} and {told[-1]}" if len(told) > 1 else told[0]
    (line,) = alike("patient", [name, changed])
    assert f"differ in {listed} only" in line


def test_names_in_two_encodings_are_told_apart_in_print() -> None:
    assert (shown("M\u00fcller"), shown("Mu\u0308ller")) == ("Müller", "Mu\\u0308ller")
