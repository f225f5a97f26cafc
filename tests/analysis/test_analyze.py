"""analyze from end to end: what is written where, and what is refused."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from eus_ray import store
from eus_ray.analysis.analyze import analyze
from eus_ray.analysis.comparison.paper_tables import table2
from eus_ray.analysis.inputs.study_images import read_study_images
from eus_ray.analysis.report.results import read_study
from eus_ray.errors import UserError
from eus_ray.store import Store
from tests.analysis.conftest import leave_out_figures

MakeStudy = Callable[..., Store]
Example = tuple[pd.DataFrame, dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]
FILES = {"images.parquet", "report.html", "table1.csv", "table1.tex", "table2.csv", "table2.tex"}
FILES |= {"claims.csv", "statistics.csv", "statistics.parquet"}
ROCS = {"auc.csv", "roc.csv"}
FIGURES = {
    f"figures/{name}.{end}"
    for name in ("dsc_by_model", "learning_curves", "examples", "roc", "boxes_by_t_stage", "failures")
    for end in ("svg", "png")
}


class Page(HTMLParser):
    """Checks that every element closes; collects elements with their attributes, and the text."""

    VOID = frozenset({"meta", "link", "img", "input", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.source = html
        self.open: list[str] = []
        self.texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


@pytest.fixture
def drawing() -> None:
    """Asked for by a test that needs the figures themselves."""


@pytest.fixture(autouse=True)
def no_drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures have tests of their own, and take most of an analysis' time."""
    if "drawing" not in request.fixturenames:
        leave_out_figures(monkeypatch)


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("drawing")
def test_a_study_becomes_tables_figures_and_a_report(make_study: MakeStudy) -> None:
    study = make_study()
    location = analyze(study.location)
    report = Path(study.root, "report")
    assert location == str(report / "report.html")
    assert written(report) >= FILES | ROCS | FIGURES
    table = pq.read_table(report / "images.parquet")
    assert table.schema.metadata[b"eus_ray_schema"] == store.SCHEMA_VERSION.encode()
    expected = read_study_images(study, read_study(study).cases).frame
    pd.testing.assert_frame_equal(table.to_pandas(), expected)
    again = pd.read_csv(report / "table2.csv", float_precision="round_trip")
    pd.testing.assert_frame_equal(again, table2(expected), check_exact=True, check_dtype=False)
    assert pd.read_csv(report / "table1.csv")["value"][0] == "8"
    pictures = [attributes["src"] for tag, attributes in Page(Path(location).read_text()).elements if tag == "img"]
    drawn = {base64.b64decode(src.partition("base64,")[2]) for src in pictures if "svg+xml" in src}
    svg = (report / "figures/learning_curves.svg").read_bytes()
    assert svg in drawn
    assert len(svg) > 5000


def test_the_report_says_what_was_done(make_study: MakeStudy) -> None:
    page = Page(Path(analyze(make_study().location)).read_text())
    for text in (
        "Synthetic data.",
        "12 synthetic images of 8 patients",
        "3 folds (seed 0), balanced by T-stage",
        "The models were U-Net (Ronneberger et al., 2015) and DAF-Net (Wang et al., 2018; Seo et al., 2022).",
        "Missed: no pixel of the lesion is found 1 of 10 (10.0 %) 0 of 10 (0.0 %)",
        "T-stage (T1, T2, T3) 2/4/1 1",
        "0123abc",
        "torch 2.14.1",
        "learning rate 0.001",
        "patient A, fold 0",
    ):
        assert text in page.text, text
    assert "Unfinished" not in page.text
    assert page.text.count("0.000, missed HD ∞") == 1


def test_the_report_is_one_file_that_loads_nothing(make_study: MakeStudy) -> None:
    html = Path(analyze(make_study().location)).read_text()
    page = Page(html)
    links = page.values("src") + page.values("href") + page.values("srcset") + page.values("action")
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "url(" not in html.replace("url(#", "")
    assert "@import" not in html
    assert "fetch(" not in html
    assert "http" not in html.replace("http://www.w3.org", "").replace("http-equiv", "")
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(pictures) > 5
    assert all(picture["alt"] for picture in pictures)


def test_the_same_study_gives_the_same_bytes(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    first, second = (Path(analyze(study.location, tmp_path / name)).parent for name in ("a", "b"))
    assert written(first) == written(second)
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in written(first))


def test_names_from_the_data_are_text_never_markup(make_study: MakeStudy, example: Example) -> None:
    manifest, truths, probabilities = example
    evil = "<script>alert('x')</script>&\""
    manifest["patient_id"] = manifest["patient_id"].replace("A", evil)
    manifest["t_stage"] = manifest["t_stage"].replace("T3", "</td><img src=x onerror=alert(1)>")
    manifest["image_id"] = manifest["image_id"].replace("i00", "x' onload='y")
    rename = {"i00": "x' onload='y"}
    study = make_study(
        manifest=manifest,
        truths={rename.get(name, name): truth for name, truth in truths.items()},
        images={rename.get(name, name): np.full(truth.shape, 80, np.uint8) for name, truth in truths.items()},
        probabilities={(model, rename.get(name, name)): value for (model, name), value in probabilities.items()},
    )
    html = Path(analyze(study.location)).read_text()
    page = Page(html)
    assert html.count("<script>") == 1
    assert evil in page.text
    assert "onerror" in page.text
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_a_running_study_says_what_is_missing(make_study: MakeStudy) -> None:
    study = make_study(
        state="running", whole=[], without=[("unet", 1), ("daf_net", 1), ("daf_net", 2)], provenance=None
    )
    page = Page(Path(analyze(study.location)).read_text())
    assert "U-Net: 2 of 3 folds finished, running; missing fold 1" in page.text
    assert "The models were not tested on the same images, so do not compare these means" in page.text
    assert "over the 4 images that all models have" in page.text  # those of fold 0
    assert "not predicted yet" in page.text
    assert "Synthetic" not in page.text


def test_a_single_fold_of_a_single_model(make_study: MakeStudy) -> None:
    study = make_study(
        state="running", whole=[], without=[("daf_net", 0), ("daf_net", 2)] + [("unet", f) for f in range(3)]
    )
    analyze(study.location)
    row, baseline = pd.read_csv(Path(study.root, "report/table2.csv")).to_dict("records")
    assert (row["model"], baseline["model"]) == ("daf_net", "baseline")
    assert row["dsc_low"] <= row["dsc"] <= row["dsc_high"]
    assert np.isnan(row["dsc_sd"])
    assert r"DAF-Net & \textbf{" in Path(study.root, "report/table2.tex").read_text()  # better than the baseline


def test_nothing_finished_is_a_report_that_says_so(make_study: MakeStudy) -> None:
    study = make_study(
        state="running", whole=[], without=[(model, f) for model in ("unet", "daf_net") for f in range(3)]
    )
    page = Page(Path(analyze(study.location)).read_text())
    assert "Nothing is finished yet" in page.text
    assert "Learning curves" in page.text
    assert not Path(study.root, "report/table2.csv").exists()
    assert pq.read_table(Path(study.root, "report/images.parquet")).num_rows == 0


def test_a_study_that_has_only_just_begun(tmp_path: Path) -> None:
    Store(tmp_path / "study").write_text(store.STUDY, 'models = ["unet"]\n')
    page = Page(Path(analyze(tmp_path / "study")).read_text())
    assert "the data are not prepared yet" in page.text


def test_winners_are_labelled_optimistic(make_study: MakeStudy) -> None:
    page = Page(Path(analyze(make_study(kind="winner").location)).read_text())
    assert page.text.count("U-Net tuned on these folds") > 1


def test_the_studys_own_report_is_replaced_whole(make_study: MakeStudy) -> None:
    study = make_study()
    report = Path(study.root, "report")
    analyze(study.location)
    fresh = written(report)
    study.write_text("report/older.csv", "of an older version")
    analyze(study.location, report)
    assert written(report) == fresh


def test_a_folder_of_the_users_is_not_touched(make_study: MakeStudy, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(UserError, match=r"mine: has files already; choose another output folder"):
        analyze(make_study().location, tmp_path / "mine")
    assert written(tmp_path / "mine") == {"notes.txt"}
    with pytest.raises(UserError, match="is a file"):
        analyze(make_study("other").location, tmp_path / "mine/notes.txt")


def test_what_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent: no such folder \(no study.toml\); give the folder"):
        analyze(tmp_path / "absent")
    with pytest.raises(UserError, match=r"is not a study folder \(no study.toml\)"):
        analyze(tmp_path)
    with pytest.raises(UserError, match=r"absent.csv: no such file"):
        analyze(tmp_path / "absent.csv")


def test_a_uri_works_as_a_path_does(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    analyze(f"file://{study.root}", f"file://{tmp_path}/out")
    assert written(tmp_path / "out") >= FILES | ROCS | FIGURES


SCORES = """model,image_id,patient_id,fold,dsc,hd,height,width,t_stage
a,1,p,0,0.9,3,30,40,T1
a,2,q,1,0.5,inf,30,40,T2
b,1,p,0,0.8,4,30,40,T1
b,2,q,1,0.7,9,30,40,T2
"""


def test_a_table_of_scores(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(SCORES)
    assert analyze(tmp_path / "scores.csv") == str(tmp_path / "scores_report/report.html")
    report = tmp_path / "scores_report"
    assert written(report) >= FILES | {"figures/dsc_by_model.svg", "figures/dsc_by_model.png"}
    assert not written(report) & ROCS
    table = pd.read_csv(report / "table2.csv", index_col="model")
    assert table["dsc"].to_dict() == pytest.approx({"a": 0.7, "b": 0.75})
    assert table.loc["a", "hd"] == (3 + 50) / 2
    assert table.loc["a", "hd_finite"] == 3
    assert table["iou"].isna().all()
    page = Page((report / "report.html").read_text())
    assert "T-stage (T1, T2)" in page.text
    assert "IoU above 0.5" not in page.text
    with pytest.raises(UserError, match="scores_report: has files already"):
        analyze(tmp_path / "scores.csv")


def test_means_of_different_images_are_not_compared(tmp_path: Path) -> None:
    frame = pd.DataFrame({"model": "a", "image_id": range(40), "patient_id": np.arange(40) // 2, "dsc": 0.9, "sp": 0.5})
    frame.loc[frame["image_id"] >= 25, "dsc"] = 0.5
    pd.concat([frame, frame[:25].assign(model="b", dsc=0.8)]).to_csv(tmp_path / "scores.csv", index=False)
    html = Path(analyze(tmp_path / "scores.csv")).read_text()
    page = Page(html)
    assert "DSC, mean over patients, over the 25 images that all models have (95 % interval) a 0.900" in page.text
    assert "a 40 images 0.750" in page.text  # (25 · 0.9 + 15 · 0.5) / 40, below b's mean of the 25 easy images
    assert "b 25 images 0.800" in page.text
    assert "The models were not tested on the same images, so do not compare these means; none is bold." in page.text
    assert "<strong>0.8" not in html
    assert r"\textbf" not in (tmp_path / "scores_report/table2.tex").read_text()
    assert pd.read_csv(tmp_path / "scores_report/table2.csv")["dsc"].tolist() == pytest.approx([0.75, 0.8])


def test_models_without_a_common_image(tmp_path: Path) -> None:
    rows = [f"{'ab'[image // 6]},{image},p{image},{0.5 + image / 40}" for image in range(12)]
    (tmp_path / "scores.csv").write_text("\n".join(["model,image_id,patient_id,dsc", *rows]))
    page = Page(Path(analyze(tmp_path / "scores.csv")).read_text())
    assert "DSC, mean over patients, over different images: do not compare them" in page.text
    assert "There is no image that all models have." in page.text


@pytest.mark.parametrize(
    ("folds", "patients", "note"),
    [
        (3, 3, "tested on a single patient of a fold has no interval"),
        (3, 9, "With fewer than 10 patients intervals are too short."),
        (5, 10, "With fewer than 3 patients in a fold intervals are too short."),
        (2, 10, ""),
    ],
)
def test_few_patients_are_told_of_what_an_interval_is_worth(
    tmp_path: Path, folds: int, patients: int, note: str
) -> None:
    number = np.arange(2 * patients)
    scores = pd.DataFrame({"model": "a", "image_id": number, "patient_id": number // 2, "dsc": 0.5 + number / 100})
    scores["fold"] = scores["patient_id"] % folds
    scores.to_csv(tmp_path / "scores.csv", index=False)
    html = Path(analyze(tmp_path / "scores.csv", tmp_path / "out")).read_text()
    assert note in html
    assert ("too short" in html or "has no interval" in html) == bool(note)
    assert ("(95&nbsp;% interval)" in html) == (folds < patients)


def test_a_table_without_any_of_the_papers_metrics(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("model,image_id,patient_id,hd95\na,1,p,4\na,2,q,8\n")
    analyze(tmp_path / "scores.csv", tmp_path / "out")
    assert pd.read_csv(tmp_path / "out/table2.csv")["hd95"].tolist() == [6]
    assert "HD95" in Page((tmp_path / "out/report.html").read_text()).text


def test_images_parquet_can_be_analysed_again(make_study: MakeStudy, tmp_path: Path) -> None:
    study = make_study()
    analyze(study.location)
    analyze(Path(study.root, "report/images.parquet"), tmp_path / "again")
    first, second = (
        Path(folder, "table2.csv").read_text() for folder in (Path(study.root, "report"), tmp_path / "again")
    )
    assert pd.read_csv(io.StringIO(first)).equals(pd.read_csv(io.StringIO(second)))


def test_neither_torch_nor_ray_is_imported() -> None:
    code = """
import importlib, pkgutil, sys
import eus_ray.analysis.analyze
from eus_ray.analysis.report import sections
for found in pkgutil.iter_modules(sections.__path__):
    importlib.import_module(f"{sections.__name__}.{found.name}")
heavy = ("torch", "ray", "eus_ray.data.arrays", "eus_ray.models", "matplotlib.pyplot")
print([name for name in heavy if name in sys.modules])
"""
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_a_section_that_does_not_exist_is_told(make_study: MakeStudy) -> None:
    study = make_study(whole=[])
    written = study.read_text(store.STUDY)
    for name, cure in (("analysis2", "; did you mean analysis?"), ("zzz", "")):
        study.write_text(store.STUDY, f"{written}\n[{name}]\nmargin = 0.1\n")
        with pytest.raises(UserError) as caught:
            analyze(study.location)
        (line,) = caught.value.lines
        assert line.startswith(f"{study.path(store.STUDY)}: {name}: no such field{cure}")
        assert not study.exists("report")
