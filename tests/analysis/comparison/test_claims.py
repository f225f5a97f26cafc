"""Verdicts and sentences, on differences chosen to lie where they must."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from eus_ray.analysis.comparison.claims import COLUMNS, claim, claims_table, p_text, short_claim, signed
from eus_ray.analysis.comparison.pairwise import Comparison, Training, compare_pairs
from eus_ray.analysis.comparison.score_matrix import align
from eus_ray.analysis.comparison.verdicts import Background, patients_needed, scope, verdict
from eus_ray.analysis.inputs.effort import Effort
from eus_ray.analysis.labels import Labels, model_label
from eus_ray.analysis.statistics import sign_flip_test
from tests.benchmarks.false_positives import differ, draw

FIVE_FOLDS = Training(dict.fromkeys(range(5), 10), {})
KINDS = {"unet": "fixed", "daf_net": "fixed"}
PLAIN = Background(KINDS)


def effort(model: str, **changes: Any) -> Effort:
    """Return an effort of one setting, five folds and two epochs."""
    unknown = ("trials", "chosen_epochs", "settings", "parameters", "devices", "precisions")
    same: dict[str, Any] = dict.fromkeys(unknown, ())
    hours = {"hours": math.nan, "gpu_hours": None, "cpu_hours": None}
    whole = {"settings_tried": 1, "folds": tuple(range(5)), "epochs": (2,) * 5, "fold_epochs": 10}
    named = {"model": model, "label": model_label(model), "arch": model, "kind": "fixed"}
    return Effort(**named | same | hours | whole | changes)


EQUAL = Background(KINDS, efforts={model: effort(model) for model in KINDS})


def study(differences: Sequence[float], metric: str = "dsc", fold: Any = None) -> pd.DataFrame:
    """Return scores in which daf_net is above unet by `differences`, one image per patient; folds alternate."""
    number = len(differences)
    base = np.linspace(0.3, 0.5, number) if metric not in ("hd", "avd") else np.linspace(20, 40, number)
    frames = [
        pd.DataFrame(
            {
                "model": model,
                "image_id": [f"i{place}" for place in range(number)],
                "patient_id": [f"p{place:04d}" for place in range(number)],
                "fold": np.arange(number) % 5 if fold is None else fold,
                metric: base + shift,
            }
        )
        for model, shift in (("daf_net", np.asarray(differences)), ("unet", 0))
    ]
    return pd.concat(frames, ignore_index=True)


def normal(mean: float, sd: float, number: int) -> np.ndarray:
    """Return normal differences with exactly this mean and SD, in random order."""
    z = scipy.stats.norm.ppf((np.arange(number) + 0.5) / number)
    z = np.random.default_rng(0).permutation((z - z.mean()) / z.std(ddof=1))
    return mean + sd * z


def compared(frame: pd.DataFrame, metric: str = "dsc") -> Comparison:
    (pair,) = compare_pairs(align(frame, [metric]), FIVE_FOLDS)
    return pair


# ---- verdicts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        (normal(0.1, 0.1, 40), "supported"),
        (normal(-0.1, 0.1, 40), "supported"),
        (normal(0.002, 0.02, 40), "equivalent"),
        (normal(0.01, 0.06, 75), "not supported"),  # 73 patients would show 0.02
        (normal(0.01, 0.06, 72), "too few patients"),
        ([0.1, 0.11, 0.12, 0.13, 0.14], "too few patients"),  # five who all agree: p = 1/16
        ([0.1, 0.11, 0.12, 0.13, 0.14, 0.15], "supported"),  # six: p = 1/32
        ([0.1] * 4, "too few patients"),  # ties: the normal distribution says p = 0.046
        ([0.1] * 6, "supported"),
        ([0.3], "too few patients"),
        ([0.0] * 6, "equivalent"),
        ([0.0] * 5, "too few patients"),  # that they agree is no evidence yet
        ([0.05] * 20, "supported"),
        ([0.03] * 7 + [-0.03], "too few patients"),  # 18/256
        ([0.01] * 18 + [-0.3, -0.3], "too few patients"),  # most patients say one thing, the mean another
        ([0.01, 0.01], "too few patients"),  # an interval without width is no evidence
        ([0.01] * 6 + [0.011] * 6, "supported"),
    ],
)
def test_verdicts(differences: Sequence[float], expected: str) -> None:
    assert verdict(compared(study(differences))) == expected


def test_folds_that_do_not_differ_say_nothing_of_other_trainings() -> None:
    pair = compared(study([0.1] * 10))
    assert verdict(pair) == "supported"
    assert scope(pair, PLAIN) == "these trained models"
    assert "of other trainings folds that do not differ at all say nothing." in claim(pair, PLAIN)


def test_a_single_patient_has_no_interval() -> None:
    assert math.isinf(compared(study([0.3])).mean.low)
    assert "interval" not in claim(compared(study([0.3])), PLAIN)


def test_distances_have_a_margin_of_their_own_and_less_is_better() -> None:
    nearer = compared(study(normal(-5, 4, 40), "hd"), "hd")
    assert verdict(nearer) == "supported"
    assert claim(nearer, Background(KINDS, "px", EQUAL.efforts)).startswith(
        "DAF-Net has a lower HD than U-Net, on average by 5.00 px ("
    )
    on_grid = Background(KINDS, "px", EQUAL.efforts, "px of the 128 × 128 grid")
    assert "Exploratory. Distances are in px of the 128 × 128 grid." in claim(nearer, on_grid)
    assert "Distances are" not in claim(nearer, Background(KINDS, "mm", EQUAL.efforts, "mm"))
    assert "Distances are" not in claim(compared(study(normal(0.1, 0.05, 40))), on_grid)
    assert verdict(compared(study(normal(0.1, 2, 40), "hd"), "hd")) == "equivalent"


def test_ranks_that_disagree_with_the_mean_are_told() -> None:
    """18 patients are a little better, 2 are lost: the ranks say one thing, the mean the other."""
    pair = compared(study([0.01 + 0.001 * place for place in range(18)] + [-0.25, -0.24]))
    assert pair.ranks_p_adjusted < 0.05
    assert pair.ranks.effect_size > 0 > pair.difference
    assert verdict(pair) == "too few patients"
    assert "The Wilcoxon signed rank test on patients finds a difference (p = 0.0" in claim(pair, PLAIN)
    assert "of ranks (18 patients favour DAF-Net, 2 U-Net), not of the mean." in claim(pair, PLAIN)
    few = compared(study([0.2] * 12 + [-0.01] * 18))
    assert verdict(few) == "supported"
    assert "More patients favour U-Net (18 against 12): a few large differences outweigh them." in claim(few, PLAIN)
    assert "The Wilcoxon signed rank test on patients does not show it (p = 0." in claim(few, PLAIN)


def test_architectures_only_where_the_folds_agree_and_the_effort_was_the_same() -> None:
    steady = compared(study(normal(0.1, 0.02, 50)))
    assert scope(steady, EQUAL) == "architectures"
    assert claim(steady, EQUAL).startswith("DAF-Net has a higher DSC than U-Net, on average by 0.100 (")
    assert "by more than other trainings would change (Nadeau–Bengio p " in claim(steady, EQUAL)
    folds = np.arange(50) % 5
    moody = compared(study(np.array([0.3, 0.1, 0.02, 0.02, 0.06])[folds] + normal(0, 0.01, 50)))
    assert verdict(moody) == "supported"
    assert scope(moody, EQUAL) == "these trained models"
    assert "of other trainings the folds do not show it (Nadeau–Bengio p = 0." in claim(moody, EQUAL)
    alone = compared(study(normal(0.1, 0.02, 50), fold=0))
    assert scope(alone, EQUAL) == "these trained models"
    assert "other trainings" not in claim(alone, EQUAL)
    assert scope(steady, PLAIN) == "these trained models"
    assert "What effort went into each is not known" in claim(steady, PLAIN)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings_tried": 4}, "settings tried: 4 and 1"),
        ({"epochs": (12,) * 5}, "epochs: 12 and 2"),
        ({"settings": ({"model.encoder": "resnet18", "model.pretrained": True},)}, "pretrained: DAF-Net alone"),
    ],
)
def test_efforts_that_differ_are_told_in_the_claim_itself(changes: dict[str, Any], said: str) -> None:
    background = Background(KINDS, efforts={"unet": effort("unet"), "daf_net": effort("daf_net", **changes)})
    for differences in (normal(0.1, 0.02, 50), normal(0.0, 0.2, 50)):
        pair = compared(study(differences))
        sentence = f"Their efforts differ ({said}), so this says nothing about the architectures."
        assert sentence in claim(pair, background)
        assert claims_table([pair], background).iloc[0]["effort"] == said
    assert scope(compared(study(normal(0.1, 0.02, 50))), background) == "these trained models"


SMALL = ({"model.encoder": "resnet18", "model.pretrained": False},)
TRAINED = ({"model.encoder": "resnet18", "model.pretrained": True},)


@pytest.mark.parametrize(
    ("changes", "reach", "said"),
    [
        ({"settings": TRAINED}, "settings", "with different settings (pretraining): this compares settings"),
        ({"settings": SMALL}, "these trained models", "with the same settings: this compares two trainings"),
        (
            {"settings": TRAINED, "settings_tried": 20},
            "these trained models",
            "with different settings (pretraining): this compares settings",
        ),
    ],
)
def test_variants_of_one_architecture_say_nothing_about_architectures(
    changes: dict[str, Any], reach: str, said: str
) -> None:
    efforts = {
        "unet": effort("unet", label="Plain", arch="daf_net", settings=SMALL),
        "daf_net": effort("daf_net", label="Other", arch="daf_net", **changes),
    }
    background = Background(KINDS, efforts=efforts, labels=Labels({"unet": "Plain", "daf_net": "Other"}))
    for differences in (normal(0.1, 0.02, 50), normal(0.0, 0.2, 50)):
        text = claim(compared(study(differences)), background)
        assert f"Both are DAF-Net, {said}, not architectures." in text
        assert "about the architectures" not in text
        assert ("settings were tried for them (20 and 1)" in text) == ("settings_tried" in changes)
    pair = compared(study(normal(0.1, 0.02, 50)))
    assert scope(pair, background) == reach
    assert claims_table([pair], background).iloc[0]["scope"] == reach
    assert ("by more than other trainings would change" in claim(pair, background)) == (reach == "settings")
    assert (
        claim(pair, background)
        .removeprefix("Of these trained models, on patients like these, ")
        .startswith("Other has a higher DSC than Plain, on average by 0.100")
    )


def against_the_fixed_mask(differences: Sequence[float]) -> str:
    frame = study(differences).replace({"unet": "baseline"})
    background = Background({"daf_net": "fixed", "baseline": "baseline"}, efforts={"daf_net": effort("daf_net")})
    return claim(compared(frame), background)


def test_a_model_must_be_better_than_a_mask_that_looks_at_no_image() -> None:
    better = against_the_fixed_mask(normal(0.1, 0.05, 40))
    assert better.startswith(
        "DAF-Net has a higher DSC than one fixed mask that looks at no image, on average by 0.100 ("
    )
    assert "effort" not in better
    not_shown = "DAF-Net is not shown to be better than one fixed mask that looks at no image. "
    worse = against_the_fixed_mask(normal(-0.1, 0.05, 40))
    assert worse.startswith("One fixed mask that looks at no image has a higher DSC than DAF-Net, on average by 0.100")
    assert worse.endswith("So DAF-Net is worse than it.")
    assert against_the_fixed_mask(normal(0.0, 0.2, 40)).startswith(f"{not_shown}40 patients are too few to tell")
    assert against_the_fixed_mask(normal(0.001, 0.02, 40)).startswith(f"{not_shown}Of these trained models, on pat")


# ---- how many patients --------------------------------------------------------------------------


def test_as_many_patients_as_needed_find_the_margin_in_four_of_five_studies() -> None:
    needed = patients_needed(compared(study(normal(0.0, 0.06, 40))))
    assert needed == 73
    rng = np.random.default_rng(0)
    for number, expected in ((needed, 0.8), (needed // 2, 0.5)):
        found = np.array(
            [sign_flip_test(each, np.ones(number)).p_value for each in rng.normal(0.02, 0.06, (600, number))]
        )
        assert (found < 0.05).mean() == pytest.approx(expected, abs=0.05)


def test_never_fewer_than_can_reach_the_level() -> None:
    assert patients_needed(compared(study([0.05] * 4))) == 6  # 2 / 2^6 < 0.05 < 2 / 2^5
    three = pd.concat([study([0.05] * 4), study([0.02] * 4).replace({"daf_net": "x", "unet": "y"})])
    pairs = compare_pairs(align(three[three["model"] != "y"], ["dsc"]), FIVE_FOLDS)
    assert [patients_needed(pair) for pair in pairs] == [7, 7, 7]  # 2 / 2^7 < 0.05 / 3 < 2 / 2^6
    assert patients_needed(compared(study([0.05]))) is None


# ---- sentences ----------------------------------------------------------------------------------


def test_a_sentence_has_effect_interval_p_and_patients() -> None:
    pair = compared(study(normal(0.002, 0.02, 40)))
    limits = f"{pair.mean.low:+.3f} to {pair.mean.high:+.3f}"
    assert claim(pair, PLAIN) == (
        "Of these trained models, on patients like these, DAF-Net and U-Net are equivalent in DSC: mean difference "
        f"+0.002 (95 % interval {limits}; {p_text(pair.p_adjusted)}; 40 patients), within ±0.02 (TOST p < 0.001)."
    )
    few = compared(study(normal(0.01, 0.06, 30)))
    assert claim(few, PLAIN).startswith("30 patients are too few to tell DAF-Net and U-Net apart in DSC: mean diff")
    assert claim(few, PLAIN).endswith("; about 73 would show one of 0.02.")
    assert "nor are they shown to be equivalent within ±0.02." in claim(compared(study(normal(0.01, 0.06, 80))), PLAIN)
    assert claim(compared(study([0.3])), PLAIN).startswith("1 patient is too few to tell")
    assert claim(compared(study([0.0] * 8)), PLAIN) == "DAF-Net and U-Net have the same DSC in each of 8 patients."


def test_what_weakens_a_claim_is_said_with_it() -> None:
    frame = study(normal(0.01, 0.01, 60))
    small = claim(compared(frame), PLAIN)
    assert "The difference is smaller than the margin of 0.02: it hardly matters." in small
    tuned = claim(compared(frame), Background({"unet": "winner", "daf_net": "nested"}))
    assert tuned == f"{small} The numbers of U-Net may flatter it: its settings were chosen on these folds."
    assert claim(compared(frame.iloc[:-1]), PLAIN).endswith("Left out: 1 image that only one of them has.")
    iou = frame.rename(columns={"dsc": "iou"})
    assert "Exploratory." in claim(compared(iou, "iou"), PLAIN)
    nothing_shared = pd.concat([frame[frame["model"] == "unet"].iloc[:5], frame[frame["model"] == "daf_net"].iloc[5:]])
    assert claim(compared(nothing_shared), PLAIN).startswith("U-Net and DAF-Net have no DSC of the same image")


def test_holm_is_named_only_where_it_changed_something() -> None:
    frame = study(normal(0.1, 0.02, 40))
    assert "Holm" not in claim(compared(frame), PLAIN)
    third = frame[frame["model"] == "unet"].assign(model="attention_unet")
    pairs = compare_pairs(align(pd.concat([frame, third]), ["dsc"]), FIVE_FOLDS)
    assert "p < 0.001 after Holm; 40 patients" in claim(pairs[0], PLAIN)


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(0.0004, "p < 0.001"), (0.0123, "p = 0.012"), (0.04999, "p < 0.05"), (0.05001, "p ≥ 0.05"), (1, "p = 1.000")],
)
def test_a_p_value_is_not_rounded_across_the_level(p_value: float, text: str) -> None:
    assert p_text(p_value) == text


# ---- the table ----------------------------------------------------------------------------------


def test_the_table_says_what_the_sentences_say() -> None:
    frame = study(normal(-0.1, 0.05, 40)).assign(iou=lambda rows: rows["dsc"] / (2 - rows["dsc"]))
    pairs = compare_pairs(align(frame, ["dsc", "iou"]), FIVE_FOLDS)
    table = claims_table(pairs, PLAIN)
    assert tuple(table.columns) == COLUMNS
    row, other = table.to_dict("records")
    assert (row["model_a"], row["model_b"], row["role"], other["role"]) == ("daf_net", "unet", "primary", "exploratory")
    assert row["difference"] == pytest.approx(-0.1)
    assert row["low"] < -0.1 < row["high"] < 0
    assert (row["verdict"], row["better"]) == ("supported", "unet")
    assert row["claim"] == claim(pairs[0], PLAIN)
    assert row["patients_needed"] == patients_needed(pairs[0])


def test_no_pairs_give_a_table_with_its_columns() -> None:
    table = claims_table((), Background({}))
    assert tuple(table.columns) == COLUMNS
    assert table.empty
    one = claims_table([compared(study([0.3]))], PLAIN).iloc[0]
    assert one["patients_needed"] is pd.NA
    assert one["better"] == ""
    assert math.isnan(one["equivalent_p"])


# ---- equal models -------------------------------------------------------------------------------


def test_equal_models_are_seldom_said_to_differ() -> None:
    """The whole benchmark has 1,000 studies a setting; 100 tell 5 % from the image-level test's 50 %."""
    said = np.array([differ(draw(np.random.default_rng(seed), 30, 0.5)) for seed in range(100)])
    verdicts, _, images = said.sum(axis=0)
    assert verdicts <= 11  # 5 expected; more has a probability of 1 %
    assert images >= 30


# ---- limits and scopes in print -----------------------------------------------------------------


def barely(shift: float) -> Comparison:
    """Return a pair whose interval ends at `shift` above 0."""
    pair = compared(study(normal(0.02, 0.03, 40)))
    return replace(pair, mean=replace(pair.mean, low=shift, high=0.04, p_value=0.04), p_adjusted=0.04)


def test_a_limit_that_is_not_0_is_not_printed_as_0() -> None:
    for shift, text in ((0.000365, "0.0004"), (0.00004, "0.00004"), (0.0312, "0.031"), (0.0, "0.000")):
        assert f"95 % interval {text} to 0.040;" in short_claim(barely(shift), PLAIN)
        assert signed("dsc", -shift) == ("-" if shift else "+") + text
    assert signed("hd", -0.003) == "-0.003"
    assert signed("hd", -0.3) == "-0.30"
    assert signed("dsc", 1e-17) == "+0.000"  # noise of floats
    crossing = replace(barely(0.01), p_adjusted=0.2)
    crossing = replace(crossing, mean=replace(crossing.mean, low=-0.03, high=-0.000365))
    assert "95 % interval -0.030 to -0.0004;" in short_claim(crossing, PLAIN)


def test_a_short_claim_has_the_scope_of_the_long_one() -> None:
    of_these = "Of these trained models, on patients like these, "
    for differences in (normal(0.1, 0.1, 40), normal(0.002, 0.02, 40), normal(0.0, 0.2, 40)):
        for background in (PLAIN, EQUAL):
            pair = compared(study(differences))
            for words in (of_these, "by more than other trainings would change"):
                assert (words in short_claim(pair, background)) == (words in claim(pair, background))


def test_what_is_worse_than_the_fixed_mask_is_called_worse_everywhere() -> None:
    pair = compared(study(normal(-0.1, 0.05, 40)).replace({"unet": "baseline"}))
    background = Background({"daf_net": "fixed", "baseline": "baseline"})
    assert short_claim(pair, background).startswith(
        "DAF-Net is worse in DSC than one fixed mask that looks at no image, on average by 0.100 ("
    )
    for said in (claim(pair, background), short_claim(pair, background)):
        assert "not shown to be better" not in said
