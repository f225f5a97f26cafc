"""Seeds and the settings that they derive from."""

from __future__ import annotations

import json

from eus_ray.training.determinism import derive_seed, settings_digest, settings_text
from tests.training.test_fold import study


def test_seeds_depend_on_every_part_and_settings_on_every_field() -> None:
    seeds = {derive_seed(0, "a", 1), derive_seed(0, "a", 2), derive_seed(1, "a", 1), derive_seed(0, "b", 1)}
    assert len(seeds) == 4
    assert derive_seed(0, "a", 1) == derive_seed(0, "a", 1)
    base = settings_digest(study())
    assert settings_digest(study("optim.lr=0.5")) != base
    assert settings_digest(study(arch="attention_unet")) != base
    for unrelated in ("run.workers=3", "run.order=by_fold", "data.manifest=elsewhere.csv", "data.duplicates=warn"):
        assert settings_digest(study(unrelated)) == base


def test_how_masks_are_made_changes_no_training() -> None:
    base = settings_text(study())
    for unrelated in (
        "evaluate.threshold=0.3",
        "evaluate.keep=largest",
        "evaluate.fill_holes=true",
        "evaluate.tta=flip",
    ):
        assert settings_text(study(unrelated)) == base
    assert [name for name in json.loads(base) if name.startswith("evaluate")] == ["evaluate.grid"]


def test_a_preset_is_the_same_as_its_values_by_hand() -> None:
    paper, by_hand = study("augment.preset=paper"), study("augment.elastic_probability=1")
    assert settings_text(paper) == settings_text(by_hand)
    assert settings_text(paper) != settings_text(study()) != settings_text(study("augment.preset=strong"))


def test_the_seeds_do_not_depend_on_where_a_file_of_weights_lies() -> None:
    paths = ("/a/w.safetensors", "b/w.safetensors", "/a/v.pt")
    first, second, third = (settings_digest(study(f"model.weights={path}")) for path in paths)
    assert first == second != third
