"""Replaying stopping rules from stored scores: worked by hand, and the command's table and refusals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from eus_ray.config import Order
from eus_ray.errors import UserError
from eus_ray.search.pruners import Never, Standing, parse_rule
from eus_ray.search.replay import Curves, read_curves, replay, run_replay
from eus_ray.store import SCORES, PartKey, Store, TrialState, write_trials
from tests.benchmarks.score_tables import Generator

COUNTS = ["tp", "fp", "fn", "tn"]


def curves(*trials: list[list[float]], counts: str = "best") -> Curves:
    """One patient a fold; each trial's scores by fold and epoch."""
    by_epoch = np.array(trials, dtype=float)  # (T, K, E)
    num_folds = by_epoch.shape[1]
    scores = np.where(np.eye(num_folds, dtype=bool)[None, :, None, :], by_epoch[..., None], np.nan)
    return Curves("unet", tuple(range(len(trials))), scores, by_epoch.shape[2], counts)  # type: ignore[arg-type]


class Script:
    """A rule that stops trials after so many of their steps, and writes down what it hears."""

    def __init__(self, stops_after: dict[int, int], order: Order = Order.BY_FOLD) -> None:
        self.order, self._stops_after = order, stops_after
        self.heard: list[tuple[int, list[int]]] = []
        self.standings: list[Standing] = []
        self.ends: list[tuple[int, TrialState]] = []

    def hear(self, trial: int, standing: Standing) -> None:
        self.heard.append((trial, standing.epochs.tolist()))
        self.standings.append(standing)

    def stops(self, trial: int) -> str | None:
        steps = sum(1 for number, _ in self.heard if number == trial)
        return "scripted" if steps >= self._stops_after.get(trial, 10**9) else None

    def end(self, trial: int, state: TrialState) -> None:
        self.ends.append((trial, state))


TWO = curves([[0.1, 0.5], [0.6, 0.4]], [[0.7, 0.2], [0.2, 0.3]])
THREE = curves(*[[[0.5, 0.6], [0.5, 0.6 + trial / 10]] for trial in range(3)])


def test_by_fold_one_at_a_time() -> None:
    rule = Script({})
    outcome = replay(TWO, rule)
    assert rule.heard == [
        *((0, epochs) for epochs in ([1, 0], [2, 0], [2, 1], [2, 2])),
        *((1, epochs) for epochs in ([1, 0], [2, 0], [2, 1], [2, 2])),
    ]
    assert rule.ends == [(0, "complete"), (1, "complete")]
    assert outcome.fold_epochs.tolist() == [4, 4]
    assert outcome.folds_done.tolist() == [2, 2]
    # the best epochs: (.5 + .6) / 2 and (.7 + .3) / 2
    assert outcome.chosen == 0
    assert outcome.value == pytest.approx(0.55)


def test_a_standing_has_the_best_epoch_so_far_and_the_first_of_equals() -> None:
    rule = Script({})
    replay(curves([[0.3, 0.5, 0.4], [0.2, 0.2, 0.1]]), rule)
    assert [standing.scores[0, 0] for standing in rule.standings] == [0.3, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert np.isnan(rule.standings[2].scores[1]).all()
    assert rule.standings[2].finished.tolist() == [True, False]
    two_patients = Curves("unet", (0,), np.array([[[[0.2, 0.6], [0.6, 0.2]]]]), 2, "best")
    rule = Script({})
    replay(two_patients, rule)
    assert rule.standings[-1].scores.tolist() == [[0.2, 0.6]]


def test_where_the_last_epoch_counts_the_best_one_does_not() -> None:
    assert replay(curves([[0.9, 0.5]], counts="last"), Never()).value == pytest.approx(0.5)


def test_abreast_all_folds_advance_together() -> None:
    rule = Script({0: 1}, order=Order.ABREAST)
    outcome = replay(TWO, rule)
    assert rule.heard == [(0, [1, 1]), (1, [1, 1]), (1, [2, 2])]
    assert outcome.states == ("pruned", "complete")
    assert outcome.fold_epochs.tolist() == [2, 4]


def test_two_slots_advance_in_turns_and_the_next_trial_starts_where_one_is_free() -> None:
    rule = Script({0: 1})
    replay(THREE, rule, slots=2)
    assert [trial for trial, _ in rule.heard] == [0, 1, 1, 2, 1, 2, 1, 2, 2]
    assert rule.ends == [(0, "pruned"), (1, "complete"), (2, "complete")]


def test_a_stopped_trial_is_never_chosen() -> None:
    outcome = replay(THREE, Script({2: 3}))
    assert outcome.states == ("complete", "complete", "pruned")
    assert outcome.chosen == 1
    assert outcome.folds_done.tolist() == [2, 2, 1]


def test_without_a_complete_trial_nothing_is_chosen() -> None:
    outcome = replay(THREE, Script({0: 1, 1: 1, 2: 1}), slots=3)
    assert outcome.chosen is None
    assert math.isnan(outcome.value)


def test_a_protected_trial_is_not_stopped() -> None:
    outcome = replay(THREE, Script({0: 1, 2: 1}), protected=[2])
    assert outcome.states == ("pruned", "complete", "complete")
    assert outcome.chosen == 2


def test_more_slots_than_trials() -> None:
    assert replay(THREE, Never(), slots=99).states == ("complete",) * 3


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_racing_spends_less_and_finds_as_good_a_setting(slots: int) -> None:
    spent, lost = [], []
    for seed in range(5):
        drawn, truth = Generator(epochs=10, tau_epochs=2).draw(np.random.default_rng(seed))
        outcome = replay(drawn, parse_rule("racing", 10), slots)
        everything = replay(drawn, Never())
        spent.append(outcome.fold_epochs.sum() / everything.fold_epochs.sum())
        lost.append(truth[everything.chosen] - truth[outcome.chosen])
    assert 0.2 < np.mean(spent) < 0.5
    assert np.mean(lost) < 0.005


# ---- tables -------------------------------------------------------------------------------------


def table(scores: dict[tuple[str, int], list[list[float]]], split: str = "validation") -> pd.DataFrame:
    """Rows of `scores`: two patients a fold, with two images and one; DSC by (model, trial), fold and epoch."""
    rows = []
    for (model, trial), folds in scores.items():
        for fold, epochs in enumerate(folds):
            for epoch, dsc in enumerate(epochs):
                for image in range(3):
                    tp = round(100 * dsc)  # 2 tp / (2 tp + fp + fn) with fp + fn = 2 (100 - tp)
                    rows.append(
                        {"model": model, "trial": trial, "repeat": 0, "fold": fold, "epoch": epoch}
                        | {"image_id": f"i{fold}{image}", "patient_id": f"p{fold}{image // 2}", "split": split}
                        | {"tp": tp, "fp": 100 - tp, "fn": 100 - tp, "tn": 800}
                    )
    return pd.DataFrame(rows)[SCORES.names]


GOOD, BAD = [[0.5, 0.8], [0.6, 0.7]], [[0.2, 0.3], [0.3, 0.2]]


def test_scores_become_curves() -> None:
    rows = table({("unet", 3): GOOD, ("unet", 7): BAD})
    rows.loc[(rows["image_id"] == "i00") & (rows["trial"] == 3) & (rows["epoch"] == 1), COUNTS] = [60, 40, 40, 860]
    (found,) = read_curves(rows)
    assert (found.model, found.trials, found.epochs, found.counts, found.has_last_epoch_only) == (
        "unet",
        (3, 7),
        2,
        "best",
        False,
    )
    # patients p00 p01 p10 p11; p00 has two images, .6 and .8
    np.testing.assert_allclose(found.scores[0, 0], [[0.5, 0.5, np.nan, np.nan], [0.7, 0.8, np.nan, np.nan]])
    np.testing.assert_allclose(found.scores[1, 1], [[np.nan, np.nan, 0.3, 0.3], [np.nan, np.nan, 0.2, 0.2]])


def test_another_metric() -> None:
    (found,) = read_curves(table({("unet", 0): GOOD}), "iou")
    np.testing.assert_allclose(found.scores[0, 0, :, 0], [0.5 / 1.5, 0.8 / 1.2])


def test_test_rows_count_only_where_nothing_was_validated() -> None:
    validated = table({("unet", 0): GOOD})
    tested = table({("unet", 0): [[0.1], [0.1]]}, split="test").assign(epoch=1)
    (found,) = read_curves(pd.concat([validated, tested]))
    assert found.counts == "best"
    assert np.nanmax(found.scores) == pytest.approx(0.8)
    (found,) = read_curves(tested)
    assert found.has_last_epoch_only
    assert found.epochs == 2
    assert found.scores.shape == (1, 2, 1, 4)


@pytest.mark.parametrize("lacks", ["fold", "epoch", "patient"])
def test_incomplete_trials_are_left_out_and_named(lacks: str) -> None:
    rows = table({("unet", 0): GOOD, ("unet", 1): BAD})
    gone = {"fold": rows["fold"] == 1, "epoch": rows["epoch"] == 1, "patient": rows["patient_id"] == "p11"}[lacks]
    (found,) = read_curves(rows[~(gone & (rows["trial"] == 1))])
    assert found.trials == (0,)
    assert found.note == "unet: left out 1 of 2 trials, which are incomplete: 1"


def test_nothing_whole_is_an_error() -> None:
    rows = table({("unet", 0): GOOD})
    with pytest.raises(UserError, match="unet: no trial has its scores in every fold and epoch"):
        read_curves(rows[~((rows["fold"] == 1) & (rows["epoch"] == 1))])


def test_bad_tables_are_told_everything_at_once() -> None:
    rows = table({("unet", 0): GOOD})
    with pytest.raises(UserError, match="lacks fold, tp; it needs"):
        read_curves(rows.drop(columns=["fold", "tp"]))
    with pytest.raises(UserError) as error:
        read_curves(rows.assign(tp=-1, epoch=0.5, split="dev"))
    assert [line.split(",")[0].split(":")[0] for line in error.value.lines] == ["epoch", "tp", "split"]
    with pytest.raises(UserError, match="12 rows repeat"):
        read_curves(pd.concat([rows, rows]))


# ---- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_of_two_models(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores.{suffix}"
    rows = table({("unet", 0): BAD, ("unet", 1): GOOD, ("daf_net", 0): GOOD})
    rows.to_csv(path, index=False) if suffix == "csv" else rows.to_parquet(path)
    found = run_replay(path, ["none", "racing:0.05"], slots=2)
    assert list(found.columns) == ["model", "rule", "fold_epochs", "complete", "chosen", "value", "lost"]
    assert found["model"].tolist() == ["daf_net", "daf_net", "unet", "unet"]
    assert found["chosen"].tolist() == [0, 0, 1, 1]
    assert found["complete"].tolist() == [1, 1, 2, 2]
    assert found["value"].tolist() == pytest.approx([0.75] * 4)  # (.8 + .7) / 2
    assert (found["fold_epochs"] == 1).all()  # 4 patients: nothing can be plain
    assert (found["lost"] == 0).all()
    assert found.attrs["notes"] == []


def study(folder: Path, rows: pd.DataFrame, kinds: dict[int, str]) -> Store:
    store = Store(folder)
    for (trial, fold), part in rows.groupby(["trial", "fold"]):
        store.write_part(
            "scores", PartKey("unet", trial, 0, fold), pa.Table.from_pandas(part, SCORES, preserve_index=False)
        )
    states = {"state": "complete", "reason": "", "folds_done": 2, "value": 0.5}
    write_trials(store, [{"model": "unet", "kind": kind, "trial": trial, **states} for trial, kind in kinds.items()])
    return store


def test_a_study_leaves_out_its_winner(tmp_path: Path) -> None:
    rows = table({("unet", 0): BAD, ("unet", 1): [[0.4, 0.5], [0.5, 0.6]], ("unet", 2): GOOD})
    study(tmp_path, rows, {0: "trial", 1: "trial", 2: "winner"})
    found = run_replay(tmp_path, ["none"])
    assert found["chosen"].tolist() == [1]
    assert found["complete"].tolist() == [2]


def test_a_study_is_replayed_by_its_own_metric(tmp_path: Path) -> None:
    store = study(tmp_path, table({("unet", 0): GOOD}), {0: "trial"})
    store.write_json("search/unet.json", {"metric": "iou", "default_trial": 0})
    assert run_replay(tmp_path, ["none"])["value"][0] == pytest.approx((0.8 / 1.2 + 0.7 / 1.3) / 2)


def test_asha_needs_every_epoch(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    table({("unet", 0): [[0.1], [0.1]]}, split="test").assign(epoch=9).to_csv(path, index=False)
    with pytest.raises(UserError) as error:
        run_replay(path, ["asha:3", "none"])
    assert error.value.lines == (
        f"rule asha:3: judges by epoch, and {path} has only the last epoch's scores of unet; take racing or none",
    )
    assert run_replay(path, ["none"])["fold_epochs"].tolist() == [1.0]


DIALECTS = {
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "sep line": lambda text: b"sep=;\r\n" + text.replace(",", ";").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "two byte order marks": lambda text: text.encode("utf-8-sig").replace(b"\xef\xbb\xbf", b"\xef\xbb\xbf" * 2),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_any_spreadsheet_s_dialect_is_the_same_table(tmp_path: Path, dialect: str) -> None:
    text = table({("unet", 0): BAD, ("unet", 1): GOOD}).to_csv(index=False)
    (tmp_path / "plain.csv").write_text(text)
    (tmp_path / "other.csv").write_bytes(DIALECTS[dialect](text))
    plain, other = (run_replay(tmp_path / name, ["none", "racing:0.05"]) for name in ("plain.csv", "other.csv"))
    pd.testing.assert_frame_equal(plain, other)


def test_a_patient_may_be_called_na_but_not_nothing(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    rows = table({("unet", 0): GOOD})
    rows.assign(patient_id=rows["patient_id"].replace("p00", "NA")).to_csv(path, index=False)
    assert run_replay(path, ["none"])["value"][0] == pytest.approx(0.75)
    rows.loc[rows.index[2], "patient_id"] = ""
    rows.to_csv(path, index=False)
    with pytest.raises(UserError) as error:
        run_replay(path, ["none"])
    assert error.value.lines == (f"{path}: patient_id, row 4: is empty",)


def test_columns_and_names_that_look_alike_are_told(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    rows = table({("unet", 0): GOOD, ("U-net", 0): GOOD})
    rows.to_csv(path, index=False)
    assert run_replay(path, ["none"]).attrs["notes"] == [
        f"{path}: models unet and U-net differ in case and hyphens only; they are taken as 2 models"
    ]
    rows.rename(columns={"fold": "Fold"}).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"the table lacks fold; rename Fold\?; it needs"):
        run_replay(path, ["none"])
    path.write_text(f"{path.read_text()}unet,1\n")
    with pytest.raises(UserError, match=r"row 26: has 2 cells, the header 12"):
        run_replay(path, ["none"])


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is neither a study folder nor a table"):
        run_replay(tmp_path, ["none"])
    with pytest.raises(UserError, match=r"missing\.csv: no such file$"):
        run_replay(tmp_path / "missing.csv", ["none"])
    with pytest.raises(UserError, match="0 trials at once: one is the least"):
        run_replay(tmp_path, ["none"], slots=0)
    path = tmp_path / "scores.csv"
    table({("unet", 0): GOOD}).to_csv(path, index=False)
    with pytest.raises(UserError) as error:
        run_replay(path, ["nome", "racing:2"])
    assert len(error.value.lines) == 2
