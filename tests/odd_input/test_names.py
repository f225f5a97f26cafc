"""Every entrance at which a name is read, times every kind of difference that a reader does not see or mean.

Two names that differ in encoding or invisible characters alone pair (files, and tables' names of them); all others are
taken as two, and each entrance says so in the same words.
"""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.odd_input.odd import PASSED, Odd, leave_reports_empty, run, stop_before_work
from tests.odd_input.writers import (
    NUM,
    a_set,
    busbra,
    curves,
    mask,
    masks,
    pairs,
    picture,
    put,
    save,
    scores,
    set_columns,
    statements,
    table_text,
    write_pictures,
    write_table,
)


class Kind(NamedTuple):
    """A kind of difference between two spellings."""

    one: str
    other: str
    difference: str
    is_same: bool = False
    """Whether the names pair."""


KINDS = {
    "case": Kind("P07", "p07", "case"),
    "invisible": Kind("P07", "P0\u200b7", "invisible characters", is_same=True),
    "decomposed": Kind("Pé7", unicodedata.normalize("NFD", "Pé7"), "encoding", is_same=True),
    "full width": Kind("P07", "\uff3007", "encoding"),
    "blanks": Kind("P07", "P 07", "blanks"),
    "look-alike": Kind("P07", "\u042007", "look-alike letters"),
    "hyphens": Kind("P07", "P-07", "hyphens"),
    "zeros": Kind("P07", "P7", "leading zeros"),
}
Make = Callable[[Path, Kind], object]
OUT = "--out ~/out"
CV = f"cv {OUT} --models unet --set data.manifest=~/m.csv --set folds.count=2 --set data.image_size=32"


def shown(name: str) -> str:
    return name.replace("\u200b", "\\u200b").replace("e\u0301", "e\\u0301")


def two(kind: Kind, rest: Sequence[object], place: int = 0) -> list[object]:
    """Return the cells of a column with both spellings in two rows from `place` on."""
    cells = list(rest)
    cells[place : place + 2] = [kind.one, kind.other]
    return cells


def manifest(column: str, rest: Sequence[object]) -> Make:
    return lambda here, kind: a_set(**{column: two(kind, rest)})(here)


def table(columns: dict[str, Sequence[object]], column: str, step: int = 1) -> Make:
    """A table in which one name has the other spelling in some rows."""

    def make(here: Path, kind: Kind) -> None:
        cells = list(columns[column])
        first = cells[0]
        second = next(cell for cell in cells if cell != first) if step == 0 else None
        changed = [kind.one if cell == first else kind.other if cell == second else cell for cell in cells]
        if second is None:
            changed = [kind.other if place == step and cell == kind.one else cell for place, cell in enumerate(changed)]
        write_table(here / "t.csv", {**columns, column: changed})

    return make


def patients_csv(column: str) -> Make:
    def make(here: Path, kind: Kind) -> None:
        pairs(here)
        columns = {"image": list("abc"), "patient_id": ["X1", "X2", "X3"]}
        write_table(here / "src/patients.csv", {**columns, column: two(kind, columns.get(column, ["T1"] * 3))})

    return make


def folder(here: Path, kind: Kind) -> None:
    for n, name in enumerate((kind.one, kind.other)):
        save(here / f"new/{name}.png", picture(n))


def images_of_named_patients(here: Path, kind: Kind) -> None:
    pairs(here, (kind.one, kind.other))
    write_table(here / "src/patients.csv", {"image": [kind.one, kind.other], "patient_id": ["X1", "X2"]})


def predictions(here: Path, kind: Kind) -> None:
    for place in ("pred", "true"):
        masks(here, place)
        for n, name in enumerate((kind.one, kind.other)):
            save(here / f"{place}/{name}.png", mask(9 + n))


def evaluated(column: str) -> Make:
    def make(here: Path, kind: Kind) -> None:
        masks(here, "pred", shift=2)
        masks(here, "true")
        columns = {"image": ["0", "1", "2"], "patient_id": ["X1", "X2", "X3"]}
        write_table(here / "m.csv", {**columns, column: two(kind, columns.get(column, ["T1"] * 3))})

    return make


TWO_NAMES: dict[str, tuple[Make, str, int, str]] = {
    "check patients": (manifest("patient_id", set_columns()["patient_id"]), "data check ~/m.csv", 0, "patient"),
    "check images": (manifest("image_id", list("abcdef")), "data check ~/m.csv", 0, "image"),
    "check categories": (manifest("stage", ["T"] * NUM), "data check ~/m.csv", 0, "category"),
    "folds": (manifest("patient_id", set_columns()["patient_id"]), "folds ~/m.csv --count 2 --out ~/f.csv", 0,
              "patient"),
    "cv patients": (manifest("patient_id", set_columns()["patient_id"]), CV, 2, "patient"),
    "cv categories": (manifest("stage", ["T"] * NUM), CV, 2, "category"),
    "tune patients": (manifest("patient_id", set_columns()["patient_id"]),
                      f"tune{CV[2:]} --set search.inner_folds=2", 2, "patient"),
    "patients.csv": (patients_csv("patient_id"), "data import pairs ~/src ~/new", 0, "patient"),
    "patients.csv categories": (patients_csv("stage"), "data import pairs ~/src ~/new", 0, "category"),
    "pseudonyms": (patients_csv("patient_id"), "data import pairs ~/src ~/new --pseudonymise ~/key", 0, "patient"),
    "BUS-BRA": (lambda here, kind: busbra(here, Case=[kind.one, kind.other, "12"]), "data import busbra ~/src ~/new", 0,
                "patient"),
    "evaluate patients": (evaluated("patient_id"), f"evaluate ~/pred ~/true {OUT}.csv --manifest ~/m.csv", 0,
                          "patient"),
    "evaluate categories": (evaluated("stage"), f"evaluate ~/pred ~/true {OUT}.csv --manifest ~/m.csv", 0, "category"),
    "analyze patients": (table(scores(), "patient_id"), f"analyze ~/t.csv {OUT}", 0, "patient"),
    "analyze images": (table(scores(), "image_id", 0), f"analyze ~/t.csv {OUT}", 0, "image"),
    "analyze models": (table(scores(("net", "other")), "model", 0), f"analyze ~/t.csv {OUT}", 0, "model"),
    "analyze categories": (table(scores(stage=list("aabbcccc")), "stage", 0), f"analyze ~/t.csv {OUT}", 0, "category"),
    "replay patients": (table(curves(), "patient_id", 0), "replay ~/t.csv --rule none", 0, "patient"),
    "replay models": (table(curves(model=["a"] * 6 + ["b"] * 6), "model", 0), "replay ~/t.csv --rule none", 0, "model"),
    "predict folder": (folder, f"predict ~/study ~/new {OUT}", 2, "image"),
    "predict manifest": (manifest("patient_id", set_columns()["patient_id"]), f"predict ~/study ~/m.csv {OUT}", 2,
                         "patient"),
}  # fmt: skip
"""How two names come in, and what they name; they are always taken as two."""

TWO_FILES: dict[str, tuple[Make, str, int, str]] = {
    "import pairs": (lambda here, kind: pairs(here, (kind.one, kind.other)), "data import pairs ~/src ~/new", 0,
                     "patient"),
    "import images of named patients": (images_of_named_patients, "data import pairs ~/src ~/new", 0, "image"),
    "evaluate folder": (predictions, f"evaluate ~/pred ~/true {OUT}.csv", 0, "image"),
}  # fmt: skip
"""Two files in one folder: those of one name are refused."""


def paired_files(one: str, other: str, before: Callable[[Path], object] = lambda _: None) -> Make:
    """Two files that are one pair, each in its own spelling."""

    def make(here: Path, kind: Kind) -> None:
        before(here)
        save(here / one.format(kind.one), picture(9))
        save(here / other.format(kind.other), mask(9, 1))

    return make


def nnunet_json(here: Path) -> None:
    put(
        here / "src/dataset.json", '{"labels": {"background": 0, "lesion": 1}, "numTraining": 1, "file_ending": ".png"}'
    )


def named_in_patients_csv(here: Path, kind: Kind) -> None:
    pairs(here, (kind.one, "b"))
    write_table(here / "src/patients.csv", {"image": [kind.other, "b"], "patient_id": ["X1", "X2"]})


def named_in_manifest(here: Path, kind: Kind) -> None:
    write_pictures(here)
    (here / "images/0.png").rename(here / f"images/{kind.one}.png")
    cells = [f"images/{kind.other}.png", *set_columns()["image"][1:]]
    put(here / "m.csv", table_text(set_columns(image=cells)))


def evaluated_pair(here: Path, kind: Kind) -> None:
    for place, name in (("pred", kind.one), ("true", kind.other)):
        masks(here, place)
        save(here / f"{place}/{name}.png", mask(9))


def evaluated_row(here: Path, kind: Kind) -> None:
    for place in ("pred", "true"):
        masks(here, place)
        (here / f"{place}/0.png").rename(here / f"{place}/{kind.one}.png")
    write_table(here / "m.csv", {"image": [kind.other, "1", "2"], "patient_id": ["X1", "X2", "X3"]})


PAIRED: dict[str, tuple[Make, str]] = {
    "import pairs": (paired_files("src/images/{}.png", "src/masks/{}.png"), "data import pairs ~/src ~/new"),
    "import pairs with _mask": (paired_files("src/images/{}.png", "src/masks/{}_mask.png"),
                                "data import pairs ~/src ~/new"),
    "import nnunet": (paired_files("src/imagesTr/{}_0000.png", "src/labelsTr/{}.png", nnunet_json),
                      "data import nnunet ~/src ~/new"),
    "patients.csv": (named_in_patients_csv, "data import pairs ~/src ~/new"),
    "manifest": (named_in_manifest, "data check ~/m.csv"),
    "evaluate": (evaluated_pair, f"evaluate ~/pred ~/true {OUT}.csv"),
    "evaluate manifest": (evaluated_row, f"evaluate ~/pred ~/true {OUT}.csv --manifest ~/m.csv"),
}  # fmt: skip
"""A name, and another name that should be the same."""


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs end after their checks, and reports be empty: what is said of names is said before."""
    stop_before_work(monkeypatch)
    leave_reports_empty(monkeypatch)


@pytest.mark.usefixtures("stops")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("entrance", [*TWO_NAMES, *TWO_FILES])
def test_two_names_that_look_alike_are_told(
    entrance: str,
    kind: str,
    trained: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    make, command, code, what = {**TWO_NAMES, **TWO_FILES}[entrance]
    if command.startswith("predict"):
        shutil.copytree(trained, tmp_path / "study")
    one, other, difference, is_same = KINDS[kind]
    kinds = "categories" if what == "category" else f"{what}s"
    in_any_order = (f"{kinds} {shown(one)} and {shown(other)} ", f"{kinds} {shown(other)} and {shown(one)} ")
    said: tuple[str, ...] = (f"differ in {difference} only; they are taken as 2 {kinds}",)
    if entrance in TWO_FILES and is_same:
        code, said, in_any_order = 2, ("keep one, or rename one",), ("",)
    elif code == 2:
        said = (*said, PASSED)
    odd = Odd(entrance, lambda here: make(here, KINDS[kind]), command, code, said)
    text = run(odd, tmp_path, capfd, caplog)
    assert any(words in text for words in in_any_order), text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("entrance", PAIRED)
def test_names_pair_but_for_their_encoding_or_are_told(
    entrance: str,
    kind: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    make, command = PAIRED[entrance]
    code, said = (0, ()) if KINDS[kind].is_same else (2, (", which looks alike",))
    run(Odd(entrance, lambda here: make(here, KINDS[kind]), command, code, said), tmp_path, capfd, caplog)


MODELS = {"case": "UNET", "invisible": "un\u200bet", "full width": "\uff55net", "blanks": "u net",
          "look-alike": "un\u0435t", "hyphens": "u-net"}  # fmt: skip


@pytest.mark.usefixtures("stops")
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("command", [CV.replace("--models unet ", ""), f"tune{CV[2:]}".replace("--models unet ", "")])
def test_a_model_that_looks_like_another_is_told(
    command: str, model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    a_set()(tmp_path)
    words = [*command.split(" "), "--models", model]
    odd = Odd("", lambda _: None, "", 2, ("did you mean unet?",))
    run(odd, tmp_path, capfd, caplog, words=words)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_of_a_published_table(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Groups that look alike are one, so that their numbers are compared, and it is told."""
    one, other, difference, _ = KINDS[kind]
    columns = statements(group=[one, other], value=["0.81", "0.83"])
    said = ("0.81 in one place and 0.83 in the other", f"differ in {difference} only; they are taken as one group")
    odd = Odd("", lambda here: put(here / "t.csv", table_text(columns)), "audit ~/t.csv", 0, said)
    run(odd, tmp_path, capfd, caplog)
