"""Section that goes through two reporting guidelines: what is answered here, and what the authors have to add."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from eus_ray.analysis.comparison.paper_tables import as_csv
from eus_ray.analysis.report import checklist
from eus_ray.analysis.report.checklist import GUIDELINES, Answer, State
from eus_ray.analysis.report.checklist_facts import counted, facts, reasons
from eus_ray.analysis.report.page import render
from eus_ray.analysis.report.results import Results, Section

_TITLES = {
    "patients": "Patients and images",
    "performance": "Performance",
    "claims": "What can be claimed",
    "folds": "Each fold",
    "strata": "Subgroups",
    "search": "Search",
    "failures": "Failures",
    "methods": "Methods",
}
"""What a link to a section is called."""


def build(results: Results) -> Section:
    """Build the section.

    Raises:
        UserError: If the study's report.toml has a defect.
    """
    given = {} if results.store is None else checklist.read_report_file(results.store)
    found = checklist.answers(facts(results), reasons(results), given)
    states = checklist.item_states(found)
    body = render(
        "checklist.html",
        guidelines=GUIDELINES,
        answers=found,
        titles=_TITLES,
        counts=[_count(states, [name]) for name in GUIDELINES],
        total=_count(states, list(GUIDELINES)),
        is_study=results.store is not None,
        report_file=checklist.REPORT_FILE,
    )
    return Section(80, "checklist", "Reporting checklist", body, {"checklist.csv": as_csv(_table(found)).encode()})


def _count(states: dict[tuple[str, str], State], guidelines: list[str]) -> str:
    """Return how many items of some guidelines are answered."""
    number = Counter(state for (guideline, _), state in states.items() if guideline in guidelines)
    answered, still_open, not_applicable = (number[state] for state in State)
    return (
        f"{answered} of {answered + still_open} items {_is(answered)} answered here; {still_open} {_is(still_open)} "
        f"open. {counted(not_applicable, 'item')} {'does' if not_applicable == 1 else 'do'} not apply."
    )


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _table(found: list[Answer]) -> pd.DataFrame:
    """Return the answers as a table, one row per item and topic, items in the guidelines' order."""
    rows = [
        {
            "guideline": GUIDELINES[guideline],
            "item": number,
            "topic": answer.topic.key,
            "asks": answer.topic.asks,
            "state": str(answer.state),
            "answer": " ".join(filter(None, [answer.fact.text if answer.fact else "", answer.given])) or answer.reason,
            "section": answer.fact.anchor if answer.fact else "",
        }
        for guideline, number in checklist.item_states(found)
        for answer in found
        if (guideline, number) in answer.topic.items
    ]
    return pd.DataFrame(rows)
