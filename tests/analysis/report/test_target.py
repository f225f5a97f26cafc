"""What the masks show has the study's own name in the whole report."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from eus_ray.analysis.report.report import build_sections, report_html
from eus_ray.analysis.report.results import read_study
from eus_ray.config import AnalysisSettings, Study
from eus_ray.store import Store

MakeStudy = Callable[..., Store]
pytestmark = pytest.mark.usefixtures("undrawn")


def test_the_report_calls_what_is_outlined_as_the_study_does(make_study: MakeStudy) -> None:
    named = Study(models=("unet", "daf_net"), analysis=AnalysisSettings(target="fetal head"))
    results = read_study(make_study(settings=named))
    sections = build_sections(results)
    page = report_html(results, sections)
    shown = re.sub(r"(?s)<(script|style|pre)\b.*?</\1>|(src|href|data-\w+)=\"[^\"]*\"", " ", page)
    assert "fetal head" in shown
    files = {name: data for section in sections for name, data in section.files.items()}
    tables = [data.decode() for name, data in files.items() if name.endswith((".tex", ".csv"))]
    assert len(tables) > 5
    assert [re.findall(r".{0,60}\blesions?\b.{0,60}", text, re.IGNORECASE) for text in (shown, *tables)] == (
        [[]] * (1 + len(tables))
    )
