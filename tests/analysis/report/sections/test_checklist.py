"""The checklist in the report: true statements, links that lead somewhere, and counts."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from eus_ray.analysis.analyze import analyze
from eus_ray.analysis.report.checklist_facts import facts, reasons
from eus_ray.analysis.report.results import Results, Section, read_study, read_table
from eus_ray.analysis.report.sections import checklist
from eus_ray.store import Store
from tests.analysis.conftest import PROVENANCE
from tests.analysis.test_analyze import Page

MakeStudy = Callable[..., Store]
REAL = PROVENANCE | {"data": PROVENANCE["data"] | {"synthetic": False}}


def text_of(section: Section) -> str:
    return Page(str(section.body)).text


def counts_of(section: Section) -> tuple[int, int, int]:
    """Return how many items are answered, how many apply, and how many are open."""
    found = re.search(r"(\d+) of (\d+) items are answered here; (\d+) (?:is|are) open", text_of(section))
    assert found is not None
    answered, asked, still_open = map(int, found.groups())
    return answered, asked, still_open


def table_of(section: Section) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(section.files["checklist.csv"]), keep_default_na=False)


@pytest.fixture
def scores(tmp_path: Path) -> Results:
    """Return a table of one model without folds, counts and clinical columns."""
    (tmp_path / "scores.csv").write_text("model,image_id,patient_id,hd\nours,i1,p1,2\nours,i2,p2,3\nours,i3,p3,3\n")
    return read_table(Store(tmp_path), "scores.csv")


def test_most_items_of_a_synthetic_study_are_answered_without_report_toml(make_study: MakeStudy) -> None:
    section = checklist.build(read_study(make_study()))
    answered, asked, still_open = counts_of(section)
    assert answered + still_open == asked
    assert answered / asked >= 0.6
    assert asked < 52 + 44  # ethics and the like do not apply to a phantom
    states = table_of(section).groupby(["guideline", "item"])["state"].agg(set)
    assert len(states) == 52 + 44
    assert sum("open" in state for state in states) == still_open
    assert sum(state == {"does not apply"} for state in states) == 52 + 44 - asked


def test_what_a_folder_of_real_data_cannot_know_is_open(make_study: MakeStudy) -> None:
    table = table_of(checklist.build(read_study(make_study(provenance=REAL)))).drop_duplicates("topic")
    states = table.set_index("topic")["state"]
    for topic in ("ethics", "eligibility", "readers", "reference_standard", "data_source", "dates", "funding"):
        assert states[topic] == "open", topic
    for topic in ("partitions", "software", "performance", "limitations", "fairness"):
        assert states[topic] == "answered", topic
    assert not table["answer"].str.contains("phantom").any()


def test_statements_have_the_studys_own_numbers(make_study: MakeStudy) -> None:
    results = read_study(make_study())
    found = {topic: fact.text for topic, fact in facts(results).items()}
    assert found["participants"] == "8 patients with 12 images. Of 12 tested images, 10 show the lesion."
    assert found["partitions"] == (
        "Whole patients were divided into 3 folds (seed 0), balanced by T-stage. Nobody is in two of them."
    )
    assert found["fairness"] == "Scores are given by age and sex, with the number of patients."
    assert found["analysed"] == "3 folds of 2 to 3 patients, with the number of images."
    assert found["limitations"].endswith("The data are synthetic.")  # two truths are empty
    assert "heterogeneity" not in found  # no column names a place
    assert "specification" not in found  # the folder has no weights
    assert found["selection"] == "U-Net and DAF-Net: the settings were given, and the last epoch counts."
    assert "updating" in reasons(results)


def test_a_table_says_nothing_of_how_its_models_were_made(scores: Results) -> None:
    section = checklist.build(scores)
    found = {topic: fact.text for topic, fact in facts(scores).items()}
    assert set(found) == {"participants", "missing_data", "objectives", "metrics", "performance", "uncertainty"}
    assert found["participants"] == "3 patients with 3 images."
    assert found["objectives"] == "To measure how well ours performs. DSC, the primary metric, is not among the scores."
    assert found["performance"] == "1 metric of 1 model, with 95 % intervals."
    assert reasons(scores) == {}
    answered, asked, _ = counts_of(section)
    assert asked == 52 + 44
    assert answered < 20
    assert "report.toml" not in text_of(section)


def test_report_toml_fills_fields_as_text(make_study: MakeStudy) -> None:
    study = make_study()
    before = counts_of(checklist.build(read_study(study)))
    study.write_text("report.toml", 'funding = "<b>Nobody</b> & co."\nethics = "Committee 7"\n')
    section = checklist.build(read_study(study))
    answered, asked, still_open = counts_of(section)
    # funding: an item of each guideline; ethics, of TRIPOD+AI alone, did not apply to a phantom
    assert (answered, asked, still_open) == (before[0] + 3, before[1] + 1, before[2] - 2)
    assert "<b>Nobody</b> & co." in text_of(section)
    assert "&lt;b&gt;Nobody" in str(section.body)


def test_settings_of_masks_are_told(make_study: MakeStudy) -> None:
    results = read_study(make_study())
    assert facts(results)["output"].text == (
        "A probability for each pixel; it is predicted from 0.5 on, which no score chose."
    )
    changed = '[evaluate]\nthreshold = 0.3\nkeep = "largest"\nfill_holes = true\n'
    assert facts(replace(results, settings_text=changed))["output"].text == (
        "A probability for each pixel; it is predicted from 0.3 on, which no score chose, and only the largest piece "
        "is kept. Holes are filled."
    )


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("changes", [{}, {"probabilities": {}}, {"without": [("daf_net", 1)]}])
def test_links_lead_to_sections_that_are_there(make_study: MakeStudy, changes: dict[str, object]) -> None:
    page = Page(Path(analyze(make_study(**changes).location)).read_text())
    anchors = {link[1:] for link in page.values("href") if link.startswith("#")}
    assert len(anchors) > 3
    assert anchors <= set(page.values("id"))


@pytest.mark.usefixtures("undrawn", "scores")
def test_links_of_a_tables_report_lead_to_sections_too(tmp_path: Path) -> None:
    page = Page(Path(analyze(tmp_path / "scores.csv")).read_text())
    assert {link[1:] for link in page.values("href") if link.startswith("#")} <= set(page.values("id"))
