"""A search in the report: nested rows, the text during and after the search, and the figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from matplotlib.axes import Axes

from eus_ray import store
from eus_ray.analysis.analyze import analyze
from eus_ray.analysis.comparison.selection_bias import write_selection
from eus_ray.analysis.figures import search_history, style
from eus_ray.analysis.inputs.searches import Search, read_searches
from eus_ray.analysis.inputs.study_images import read_study_images
from eus_ray.analysis.report.results import Results, read_study
from eus_ray.analysis.report.sections import performance
from eus_ray.analysis.report.sections import search as search_section
from eus_ray.analysis.report.winners import doubts
from eus_ray.store import PartKey, Store, TrialKey
from tests.analysis.search_example import example_search, trial_row, write_predictions, write_search
from tests.analysis.test_analyze import Page

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

MakeStudy = Callable[..., Store]
Example = tuple[pd.DataFrame, dict[str, np.ndarray], dict[tuple[str, str], np.ndarray]]


@pytest.fixture
def tuned(make_study: MakeStudy, example: Example) -> Callable[..., Store]:
    """Return `tuned(**rules)`: the example study with a search of unet beside its fixed trial, and its selection."""

    def make(select: bool = True, **rules: Any) -> Store:
        manifest, truths, _ = example
        study = make_study(whole=[])
        example_search(study, manifest, truths, **rules)
        if select:
            write_selection(study)
        return study

    return make


def page_of(study: Store) -> Page:
    return Page(Path(analyze(study.location)).read_text())


def set_trials(study: Store, **columns: Any) -> None:
    """Change columns of the search's trials."""
    trials = store.read_trials(study)
    for name, value in columns.items():
        trials.loc[trials["kind"] == "trial", name] = value
    store.write_trials(study, trials.to_dict("records"))


def images_of(study: Store) -> pd.DataFrame:
    return read_study_images(study, read_study(study).cases).frame


# ---- nested rows --------------------------------------------------------------------------------


def test_nested_rows_are_of_each_folds_own_winner(tuned: Callable[..., Store], example: Example) -> None:
    _, truths, _ = example
    frame = images_of(tuned())
    unet = frame[frame["model"] == "unet"]
    assert unet["kind"].value_counts().to_dict() == {"fixed": 12, "nested": 12, "winner": 12}
    for row in unet[unet["kind"] == "nested"].to_dict("records"):
        truth = truths[row["image_id"]]
        moved = np.roll(truth, {0: 2, 1: 4, 2: 2}[row["fold"]], 0)
        assert row["tp"] == (truth & moved).sum()
        assert row["fp"] == (moved & ~truth).sum()


def test_the_headline_is_nested_and_the_winner_stands_beside(tuned: Callable[..., Store]) -> None:
    study = tuned()
    page = page_of(study)
    images = pq.read_table(study.path("report/images.parquet")).to_pandas()
    table = pd.read_csv(study.path("report/table2.csv"), index_col="model")
    nested = images[(images["model"] == "unet") & (images["kind"] == "nested")]
    by_patient = nested.groupby(["fold", "patient_id"])["dsc"].mean()
    assert table.loc["unet", "dsc"] == pytest.approx(by_patient.groupby("fold").mean().mean())
    selection = pd.read_parquet(study.path("selection.parquet"))
    found = selection[selection["estimate"] == "nested"].iloc[0]
    assert found["value"] == pytest.approx(table.loc["unet", "dsc"])
    assert (found["low"], found["high"]) == pytest.approx((table.loc["unet", "dsc_low"], table.loc["unet", "dsc_high"]))
    assert list(table.index) == ["unet", "daf_net", "baseline"]
    winner = images[images["kind"] == "winner"].groupby(["fold", "patient_id"])["dsc"].mean()
    winner = winner.groupby("fold").mean().mean()
    assert "U-Net tuned on these folds" in page.text
    assert f"{winner:.3f}" in page.text
    assert "U-Net nested estimate" in page.text
    assert "Unfinished" not in page.text
    assert read_study(study).epochs["kind"].unique().tolist() == ["fixed"]  # the example has no others


def test_a_whole_file_gives_only_the_folds_that_were_won(tuned: Callable[..., Store]) -> None:
    study = tuned()
    study.finish_trial(TrialKey("unet", 2), 3)
    assert len(images_of(study).query("kind == 'nested'")) == 12


def test_a_fold_winner_without_predictions_is_named(tuned: Callable[..., Store]) -> None:
    study = tuned()
    study.delete(store.part_name("predictions", PartKey("unet", 4, 0, 1)))
    assert read_study(study).unfinished == ("U-Net (nested): 2 of 3 folds finished, complete; missing fold 1",)
    assert "U-Net (nested): 2 of 3 folds" in page_of(study).text


def test_the_winner_may_still_be_training(tuned: Callable[..., Store]) -> None:
    study = tuned()
    study.delete(store.part_name("predictions", PartKey("unet", 5, 0, 2)))
    trials = store.read_trials(study)
    trials.loc[trials["kind"] == "winner", "state"] = "running"
    store.write_trials(study, trials.to_dict("records"))
    assert read_study(study).unfinished == ("U-Net (winner): 2 of 3 folds finished, running; missing fold 2",)
    store.write_trials(study, trials[trials["kind"] != "winner"].to_dict("records"))
    assert read_study(study).unfinished == ("U-Net: the chosen setting is not trained again yet",)


# ---- the section --------------------------------------------------------------------------------


def test_the_page_says_what_was_found(tuned: Callable[..., Store]) -> None:
    study = tuned(paper_trial=4)
    page = page_of(study)
    for text in (
        "U-Net 4 trials: 3 complete, 1 pruned. Sampler: TPE. Criterion: DSC",
        "All trials of U-Net",
        "is the best setting, trained again on all training patients of each fold.",
        "a row “tuned on these folds” does not compete",
        "Believe this one: each fold's setting and epochs were chosen without its test patients.",
        "Validation score of the best of 3, trial 2.",
        "The model to use has the setting of trial 2, trained again",
        "Field Chosen, trial 2 Study's own, trial 1 optim.lr",
        "The folds themselves chose trial 2 in folds 0 and 2; trial 4 in fold 1.",
        "optim.lr 0.01 0.001",  # chosen, study's own
        "plainly worse than trial 2 on 3 patients",
        "Trials were raced (α = 0.05)",
        "Importances need 10 trials",
        "For U-Net settings were searched",
        "epochs and settings were chosen on the validation patients alone",
    ):
        assert text in page.text, text
    assert page.text.count("Believe this one") == 1
    assert "2 chosen complete 3 0.800 0.01 one_cycle – – 12" in page.text
    assert "1 study's own complete" in page.text
    assert "4 paper's complete" in page.text
    names = study.names("report/figures")
    assert "report/figures/search_history.svg" in names
    assert "report/figures/search_slices_unet.png" in names
    assert not any("importances" in name for name in names)


def test_a_winner_that_is_no_good_is_not_to_be_used(tuned: Callable[..., Store], example: Example) -> None:
    """The winner, trial 5, outlines nothing at all: the fixed mask and the nested estimate are far better."""
    study, (_, truths, _) = tuned(), example
    found = {name: mask.astype(np.float32) for name, mask in truths.items()}
    for drawn in (found, {name: np.zeros(mask.shape) for name, mask in truths.items()}):
        if drawn is not found:
            assert doubts(read_study(study)) == {}
        for fold in range(3):
            write_predictions(study, "unet", 5, fold, drawn, truths)
    results = read_study(study)
    said = doubts(results)["unet"]
    nested, mask = (results.table2.set_index("model").loc[model, "dsc"] for model in ("unet", "baseline"))
    assert re.fullmatch(
        r"U-Net, tuned on these folds, has a DSC of 0\.\d{3}, no better than the fixed mask’s "
        rf"\({mask:.3f}\) and worse by more than 0\.02 than its nested estimate \({nested:.3f}\): "
        r"do not use it before its training has been looked at\.",
        said,
    )
    for section in (performance.build(results), search_section.build(results)):
        assert section is not None
        assert said in section.body


def test_the_papers_protocol_is_called_what_it_is(tuned: Callable[..., Store]) -> None:
    study = tuned(protocol="paper", scheduler="none")
    page = page_of(study)
    assert "settings were chosen on the test folds themselves" in page.text
    assert "there is no nested estimate" in page.text
    assert "Nested estimate" not in page.text
    assert "BBC-CV 0." in page.text
    assert "Believe this one: the score as found, corrected" in page.text
    assert "were raced" not in page.text
    assert "The folds themselves" not in page.text
    assert "nested" not in set(images_of(study)["kind"])


def test_a_winner_is_headed_by_its_corrected_score(tuned: Callable[..., Store]) -> None:
    study = tuned(protocol="paper", scheduler="none")
    trials = store.read_trials(study)
    store.write_trials(study, trials[(trials["model"] != "unet") | (trials["kind"] != "fixed")].to_dict("records"))
    write_selection(study)
    rows = read_study(study).searches["unet"].selection
    bbc = rows[rows["estimate"] == "bbc"].iloc[0]
    shown = f"U-Net corrected for the search, BBC-CV {bbc['value']:.3f} ({bbc['low']:.3f}–{bbc['high']:.3f})"
    assert shown in page_of(study).text


def test_a_search_that_goes_on_says_so(tuned: Callable[..., Store]) -> None:
    study = tuned(select=False, trials=9)
    set_trials(study, state=["complete", "complete", "pruned", "running"])
    page = page_of(study)
    assert "U-Net: the search goes on; no setting is chosen yet" in page.text
    assert "The search goes on, or was interrupted: 4 of 9 trials have begun." in page.text
    assert "Estimate" not in page.text
    assert "A search reports" not in page.text
    assert "nested" not in set(images_of(study)["kind"])


def test_what_was_selected_before_a_search_went_on_does_not_count(tuned: Callable[..., Store]) -> None:
    study = tuned()
    set_trials(study, state=["complete", "complete", "pruned", "running"])
    assert "nested" not in set(images_of(study)["kind"])
    assert "The search goes on, or was interrupted" in page_of(study).text


def test_a_search_that_has_only_just_begun(make_study: MakeStudy) -> None:
    study = make_study()
    write_search(study, "attention_unet", [], trials=4)
    study.write_text(store.STUDY, 'models = ["unet", "attention_unet"]\n')
    page = page_of(study)
    assert "Att-U-Net: the search goes on; no setting is chosen yet" in page.text
    assert "Att-U-Net: not started" not in page.text
    assert "Sampler" not in page.text


def test_a_search_of_failures_has_nothing_to_say(make_study: MakeStudy) -> None:
    study = make_study(models=["unet"])
    row = trial_row("unet", 1, "failed", value=None, reason="loss is NaN in epoch 2 of fold 0, learning rate 0.1")
    write_search(study, "unet", [row])
    write_selection(study)
    page = page_of(study)
    assert "U-Net: none of the search's 1 trials was completed" in page.text
    assert "No trial was completed: nothing is chosen" in page.text
    assert "loss is NaN in epoch 2" in page.text


def test_settings_are_text_never_markup(tuned: Callable[..., Store]) -> None:
    study = tuned()
    set_trials(study, reason="<img src=x onerror=alert(1)>", **{"optim.schedule": "<b>one_cycle</b>"})
    html = Path(analyze(study.location)).read_text()
    assert "<img src=x" not in html
    assert "<b>one_cycle" not in html
    assert "&lt;b&gt;one_cycle" in html


# ---- figures ------------------------------------------------------------------------------------


def a_search(study: Store, rows: list[dict[str, Any]], selected: bool = True, **rules: Any) -> Search:
    write_search(study, "unet", rows, **rules)
    if selected:
        numbers = {"naive": (0.8, None, None), "nested": (0.7, 0.65, 0.75)}
        chosen = [
            {"model": "unet", "metric": "dsc", "trials": 3, "trial": 2, "estimate": name}
            | dict(zip(("value", "low", "high"), values, strict=True))
            for name, values in numbers.items()
        ]
        chosen += [
            {"model": "unet", "metric": "dsc", "estimate": "importance", "name": name, "value": share}
            for name, share in {"optim.lr": 0.2, "optim.schedule": 0.7, "train.batch_size": 0.1}.items()
        ]
        study.write_frame(store.SELECTION_FILE, pd.DataFrame(chosen, columns=store.SELECTION.names))
    return read_searches(study, store.read_trials(study))["unet"]


COLOURS = {"unet": style.model_colour(0)}
ROWS = [
    trial_row("unet", 1, value=0.70),
    trial_row("unet", 2, value=0.80),
    trial_row("unet", 3, "pruned", value=0.60),
    trial_row("unet", 4, value=0.75, **{"optim.lr": 0.01}),
    trial_row("unet", 5, "failed", value=None),
]


def points(axes: Axes, marker: str) -> set[tuple[float, float]]:
    return {
        (round(float(x), 6), round(float(y), 6))
        for line in axes.get_lines()
        if line.get_marker() == marker and line.get_markerfacecolor() != "none"  # which is the ring
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        if not np.isnan(x)
    }


def test_history_shows_every_trial_and_the_best_so_far(make_study: MakeStudy) -> None:
    search = a_search(make_study(), ROWS, default_trial=1)
    (axes,) = search_history.history([search], COLOURS).axes
    assert points(axes, "o") == {(1, 0.7), (2, 0.8), (3, 0.6), (4, 0.75)}
    assert points(axes, "x") == {(5, round(axes.get_ylim()[0], 6))}
    best = next(line for line in axes.get_lines() if line.get_drawstyle() == "steps-post")
    assert best.get_ydata().tolist() == [0.7, 0.8, 0.8, 0.8]
    assert any(np.allclose(line.get_ydata(), 0.7) for line in axes.get_lines() if len(line.get_xdata()) == 2)
    rings = {line.get_marker(): line.get_xydata().tolist() for line in axes.get_lines() if line.get_markersize() == 8.5}
    assert rings == {"o": [[2, 0.8]], "D": [[1, 0.7]], "s": []}


def test_a_hopeless_trial_does_not_flatten_the_others(make_study: MakeStudy) -> None:
    rows = [trial_row("unet", number, value=0.7 + number / 1000) for number in range(1, 12)]
    search = a_search(make_study(), [*rows, trial_row("unet", 12, value=0.02)], selected=False)
    (axes,) = search_history.history([search], COLOURS).axes
    foot = axes.get_ylim()[0]
    assert foot > 0.6
    assert points(axes, "v") == {(12, round(foot, 6))}


def test_nothing_but_failures_still_draws(make_study: MakeStudy) -> None:
    search = a_search(make_study(), [trial_row("unet", 1, "failed", value=None)], selected=False)
    (axes,) = search_history.history([search], COLOURS).axes
    assert points(axes, "x") == {(1, 0)}
    assert search_history.sliced(search) == []


def test_importances_are_bars_with_the_largest_on_top(make_study: MakeStudy) -> None:
    (axes,) = search_history.importance_bars([a_search(make_study(), ROWS)], COLOURS).axes
    widths = [bar.get_width() for bar in axes.patches]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert widths == pytest.approx([10, 20, 70])
    assert names == ["train.batch_size", "optim.lr", "optim.schedule"]


def test_slices_come_in_the_order_of_importance(make_study: MakeStudy) -> None:
    search = a_search(make_study(), ROWS)
    figure = search_history.slices(search, COLOURS["unet"])
    schedule, rate, batch = (axes for axes in figure.axes if axes.get_visible())
    assert schedule.get_title(loc="left") == "optim.schedule"  # gamma and milestones are the same in all trials
    assert [label.get_text() for label in schedule.get_xticklabels()] == ["steps", "one_cycle"]
    steps = {y for x, y in points(schedule, "o") if x < 0.5}
    assert steps == {0.7, 0.6}
    assert rate.get_xscale() == "log"
    assert points(rate, "o") == {(0.001, 0.7), (0.001, 0.8), (0.001, 0.6), (0.01, 0.75)}
    assert {x for x, _ in points(batch, "o")} == {8, 12, 4}
    ringed = [line for line in rate.get_lines() if line.get_markeredgecolor() == style.INK]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in ringed] == [(0.001, 0.8)]


def test_a_search_without_trials_has_no_section() -> None:
    from eus_ray.analysis.report.sections import search as section

    assert section.build(Results(source="", images=pd.DataFrame(), patients=pd.DataFrame())) is None


def test_a_choice_of_numbers_is_drawn_at_its_number(make_study: MakeStudy) -> None:
    kind = {"kind": "choice", "low": 0.0, "high": 0.0, "step": None, "when": {}}
    dimensions = [
        {"name": "train.batch_size", "choices": [4, 8, 12]} | kind,
        {"name": "optim.schedule", "choices": ["steps", "one_cycle"]} | kind,
    ]
    space = {"source": "a file", "paper": {}, "dimensions": dimensions}
    search = a_search(make_study(), ROWS, space=space)
    drawn = {axes.get_title(loc="left"): axes for axes in search_history.slices(search, COLOURS["unet"]).axes}
    places = {name: {x for x, _ in points(axes, "o")} for name, axes in drawn.items() if axes.get_visible()}
    assert places["train.batch_size"] <= {0.0, 1.0, 2.0}
    assert not places["optim.schedule"] <= {0.0, 1.0}
