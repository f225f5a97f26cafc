"""Search spaces: what they hold, what a file may say, and how each mistake is told."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eus_ray.config import ARCHITECTURES, ModelSettings, Study, to_dotted
from eus_ray.config_file import load_study, with_settings
from eus_ray.errors import UserError
from eus_ray.search.space import Dimension, Space
from eus_ray.search.space_loader import load_space

Load = Callable[..., Space]


def any_model(study: Study) -> None:
    """Takes every network."""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Reads a space from text, for one architecture with some settings of its own."""

    def read(text: str, arch: str = "unet", check_model: Any = any_model, **settings: Any) -> Space:
        path = tmp_path / "space.toml"
        path.write_text(text)
        named = {name.replace("__", "."): value for name, value in settings.items()}
        study = with_settings(Study().for_model(arch), {"search.space": str(path), **named}, "test")
        return load_space(study, check_model)

    return read


@pytest.fixture
def refused(load: Load, tmp_path: Path) -> Callable[..., list[str]]:
    """The lines that a bad space is refused with, without the file's name: `LINE: [search."FIELD"] ...`."""

    def read(text: str, **options: Any) -> list[str]:
        with pytest.raises(UserError) as error:
            load(text, **options)
        start = f"{tmp_path / 'space.toml'}:"
        assert all(line.startswith(start) for line in error.value.lines)
        return [line.removeprefix(start) for line in error.value.lines]

    return read


def field(name: str, body: str) -> str:
    return f'[search."{name}"]\n{body.strip()}\n'


def ranged(name: str, kind: str, low: object, high: object, more: str = "") -> str:
    """Lines: 1 header, 2 kind, 3 low, 4 high, 5 more."""
    return field(name, f'kind = "{kind}"\nlow = {low}\nhigh = {high}\n{more}')


def chosen(name: str, choices: str, more: str = "") -> str:
    """Lines: 1 header, 2 kind, 3 choices, 4 more."""
    return field(name, f'kind = "choice"\nchoices = {choices}\n{more}')


LR = ranged("optim.lr", "log_float", 1e-5, 0.1)
OPTIMIZER = chosen("optim.optimizer", '["sgd", "adamw"]')
MOMENTUM = ranged("optim.momentum", "float", 0.8, 0.99, 'when = { "optim.optimizer" = "sgd" }')


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_shipped_space_holds_the_paper_and_the_defaults(arch: str) -> None:
    study = Study().for_model(arch)
    space = load_space(study, any_model)
    paper, default = space.paper_point(study), space.default_of(study)
    assert paper is not None
    assert default is not None
    assert space.contains(paper)
    assert space.contains(default)
    assert default["optim.optimizer"] == "adamw"
    assert "optim.momentum" not in default
    preset = to_dotted(load_study(None, preset="paper", models=[arch]))
    left_open = {"model.decoder_width"}  # the paper names none; the preset does not either
    assert paper == {name: preset[name] for name in paper.keys() - left_open} | {
        name: default[name] for name in left_open & paper.keys()
    }


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_shipped_space_searches_what_the_architecture_has(arch: str) -> None:
    names = {dimension.name for dimension in load_space(Study().for_model(arch), any_model).dimensions}
    assert names >= {
        "optim.lr", "optim.weight_decay", "optim.gamma", "optim.milestones", "optim.optimizer", "optim.schedule",
        "optim.momentum", "train.batch_size", "loss.bce_weight", "augment.rotations_degrees", "augment.elastic_alpha",
    }  # fmt: skip
    of_daf_net = {"loss.slf_weight", "loss.level_weights", "model.decoder_init", "model.decoder_width"}
    assert names & {*of_daf_net, "model.width"} == (of_daf_net if arch == "daf_net" else {"model.width"})


def test_the_paper_point_follows_the_study_where_the_paper_is_silent() -> None:
    study = with_settings(Study().for_model("daf_net"), {"model.decoder_width": 16}, "test")
    point = load_space(study, any_model).paper_point(study)
    assert point is not None
    assert (point["model.decoder_width"], point["optim.lr"]) == (16, 0.007)


def test_shipped_networks_are_checked() -> None:
    asked: list[ModelSettings] = []
    load_space(Study().for_model("daf_net"), lambda study: asked.append(study.model))
    assert {(model.decoder_width, model.decoder_init) for model in asked} >= {(8, "default"), (64, "uniform")}
    assert len(set(map(repr, asked))) == len(asked)


def test_kinds_and_their_values(load: Load) -> None:
    space = load(
        LR
        + ranged("train.batch_size", "int", 4, 20, "step = 4")
        + ranged("loss.bce_weight", "float", 0, 1, "step = 0.1")
        + chosen("augment.scales", "[[1], [0.9, 1.1]]")
    )
    lr, batch, bce, scales = space.dimensions
    assert lr.spread(5) == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2, 1e-1], rel=1e-12)
    assert (lr.spread(2), lr.count()) == ([1e-5, 1e-1], None)
    assert (batch.spread(3), batch.spread(9), batch.count()) == ([4, 12, 20], [4, 8, 12, 16, 20], 5)
    assert (bce.spread(11)[3], bce.count()) == (0.3, 11)
    assert scales.choices == ([1.0], [0.9, 1.1])
    assert lr.contains(1e-5)
    assert lr.contains(0.1)
    assert not lr.contains(0.11)
    assert not lr.contains(True)
    assert batch.contains(12)
    assert batch.contains(12.0)
    assert not batch.contains(10)
    assert bce.contains(0.1 + 0.2)
    assert not bce.contains(0.35)
    assert scales.contains([0.9, 1.1])
    assert not scales.contains([0.9])


def test_a_range_of_one_value() -> None:
    one = Dimension("optim.lr", "log_float", 0.1, 0.1)
    assert (one.spread(3), one.count()) == ([0.1], 1)


@given(
    low=st.floats(1e-6, 1e3),
    steps=st.integers(0, 200),
    step=st.floats(1e-4, 1e3),
    kind=st.sampled_from(["float", "log_float", "int"]),
    most=st.integers(2, 30),
)
def test_spread_values_lie_inside_and_rise(low: float, steps: int, step: float, kind: Any, most: int) -> None:
    if kind == "int":
        low, step = int(low), 1 + int(step)
    dimension = Dimension("x", kind, low, low + steps * step, None if kind == "log_float" else step)
    values = dimension.spread(most)
    assert all(dimension.contains(value) and dimension.snap(value) == value for value in values)
    assert values == sorted(set(values))
    assert (values[0], values[-1]) == (pytest.approx(dimension.low), pytest.approx(dimension.high))
    assert len(values) == min(most, dimension.count() or most)


def test_a_dimension_counts_only_where_its_condition_holds(load: Load) -> None:
    space = load(OPTIMIZER + MOMENTUM)
    values = {"optim.optimizer": "sgd", "optim.momentum": 0.9}
    assert space.active(values) == values
    assert space.active(values | {"optim.optimizer": "adamw"}) == {"optim.optimizer": "adamw"}
    assert space.contains({"optim.optimizer": "adamw"})
    assert not space.contains({"optim.optimizer": "sgd"})
    assert not space.contains({"optim.optimizer": "adamw", "optim.momentum": 0.9})


def test_a_condition_on_what_waits_itself(load: Load) -> None:
    space = load(
        OPTIMIZER
        + chosen("optim.schedule", '["steps", "cosine"]', 'when = {"optim.optimizer" = "sgd"}')
        + ranged("optim.gamma", "float", 0.1, 0.5, 'when = {"optim.schedule" = ["steps"]}')
    )
    values = {"optim.optimizer": "adamw", "optim.schedule": "steps", "optim.gamma": 0.1}
    assert space.active(values) == {"optim.optimizer": "adamw"}
    assert space.active(values | {"optim.optimizer": "sgd"}).keys() == values.keys()


def test_a_condition_on_a_field_that_is_not_searched_is_the_studys(load: Load) -> None:
    assert [one.name for one in load(LR + MOMENTUM, optim__optimizer="adamw").dimensions] == ["optim.lr"]
    waiting = chosen("optim.milestones", "[[5], [9]]", 'when = { "optim.optimizer" = "sgd" }')
    waiting += ranged("optim.gamma", "float", 0.1, 0.5, 'when = { "optim.milestones" = [[9]] }')
    assert [one.name for one in load(LR + waiting, optim__optimizer="adamw").dimensions] == ["optim.lr"]
    with_momentum = load(LR + MOMENTUM, optim__optimizer="sgd")
    assert [one.name for one in with_momentum.dimensions] == ["optim.lr", "optim.momentum"]
    assert with_momentum.dimensions[1].when == {}


def test_conditions_on_numbers_and_lists(load: Load) -> None:
    elastic = chosen("augment.elastic_probability", "[0, 1]")
    alpha = ranged("augment.elastic_alpha", "float", 1, 9, 'when={"augment.elastic_probability"=1}')
    milestones = chosen("optim.milestones", "[[5, 20], [30]]")
    gamma = ranged("optim.gamma", "float", 0.1, 0.5, 'when={"optim.milestones"=[5, 20]}')
    space = load(elastic + alpha + milestones + gamma)
    assert space.dimensions[1].when == {"augment.elastic_probability": (1.0,)}
    assert space.dimensions[3].when == {"optim.milestones": ([5, 20],)}


def test_the_default_may_lie_outside(load: Load) -> None:
    space = load(LR)
    study = with_settings(Study().for_model("unet"), {"optim.lr": 0.5}, "test")
    assert space.default_of(study) is None
    assert space.outside({"optim.lr": 0.5}) == ["optim.lr 0.5 (1e-05 to 0.1)"]
    assert space.paper_point(study) is None  # no [paper] in the file
    assert load("[paper]\n'optim.lr' = 0.01\n" + LR).paper_point(study) == {"optim.lr": 0.01}


def test_a_space_survives_json(load: Load) -> None:
    study = Study().for_model("daf_net")
    for space in (load_space(study, any_model), load(OPTIMIZER + MOMENTUM)):
        stored = json.loads(json.dumps(space.as_json()))
        dimensions = []
        for table in stored["dimensions"]:
            when = {name: tuple(wanted) for name, wanted in table["when"].items()}
            dimensions.append(Dimension(**{**table, "choices": tuple(table["choices"]), "when": when}))
        assert Space(space.source, stored["paper"], tuple(dimensions)) == space


UNSEARCHED = {
    "data.image_size": "it is one for the whole study",
    "folds.seed": "it is one for the whole study",
    "run.workers": "it is one for the whole study",
    "search.metric": "it is one for the whole study",
    "evaluate.grid": "it is one for the whole study",
    "evaluate.threshold": "it is one for the whole study",
    "evaluate.keep": "it is one for the whole study",
    "evaluate.fill_holes": "it is one for the whole study",
    "models": "it is one for the whole study",
    "train.seed": "or the best would be the luckiest",
    "train.epochs": "so that they compare",
    "train.stop_after": "so that they compare",
    "model.arch": "each architecture has a search of its own",
    "model.weights": "it names a file",
    "model.encoder": "unet has nothing that it would change",
    "loss.slf_weight": "unet has nothing that it would change",
}


@pytest.mark.parametrize("name", UNSEARCHED)
def test_some_fields_may_not_be_searched(refused: Callable[..., list[str]], name: str) -> None:
    (line,) = refused(LR + field(name, ""))
    assert line.startswith(f'5: [search."{name}"] may not be searched: ')
    assert UNSEARCHED[name] in line


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        (field("optim.lrr", 'kind = "float"'), "1 optim.lrr", "no such field; did you mean optim.lr?"),
        ("[search.optim.lr]\nlow = 1", "1 optim", "no such field; names with a dot stand in quotes"),
        ('[search]\n"optim.lr" = 3', "2 optim.lr", "is no range"),
        (field("optim.lr", "low = 1"), "1 optim.lr", "has no kind; this field takes float or log_float or choice"),
        (field("optim.lr", 'kind = "logfloat"'), "2 optim.lr", "kind: 'logfloat' is none; did you mean log_float?"),
        (ranged("optim.lr", "int", 1, 2), "2 optim.lr", "kind: this field takes float or log_float or choice, not int"),
        (ranged("train.batch_size", "float", 1, 2), "2 train.batch_size", "kind: this field takes int or choice"),
        (ranged("optim.optimizer", "int", 1, 2), "2 optim.optimizer", "kind: this field takes choice, not int"),
        (ranged("train.channels_last", "int", 0, 1), "2 train.channels_last", "kind: this field takes choice, not int"),
        (ranged("optim.lr", "log_float", 1, 2, "lo = 1"), "5 optim.lr", "lo: no such key of kind log_float; did you"),
        (ranged("optim.lr", "log_float", 1, 2, "step = 1"), "5 optim.lr", "step: no such key of kind log_float"),
        (chosen("optim.lr", "[0.1]", "low = 1"), "4 optim.lr", "low: no such key of kind choice"),
        (field("optim.lr", 'kind = "float"\nlow = 0.1'), "1 optim.lr", "high: is missing"),
        (ranged("optim.lr", "float", 0.2, 0.1), "3 optim.lr", "low: 0.2 is above high, 0.1; swap them"),
        (ranged("optim.lr", "log_float", 0, 1), "3 optim.lr", "low: must be above 0 if the range is logarithmic"),
        (ranged("optim.lr", "log_float", -1, 1), "3 optim.lr", "low: must be above 0 if the range is logarithmic"),
        (ranged("optim.lr", "float", 0.1, "inf"), "4 optim.lr", "high: must be a finite number, not inf"),
        (ranged("optim.lr", "float", "nan", 1.0), "3 optim.lr", "low: must be a finite number, not nan"),
        (ranged("optim.lr", "float", "'a'", 1.0), "3 optim.lr", "low: must be a finite number, not 'a'"),
        (ranged("optim.lr", "float", 0.1, "true"), "4 optim.lr", "high: must be a finite number, not True"),
        (ranged("optim.lr", "float", 0, 1), "3 optim.lr", "low: optim.lr: input should be greater than 0, not 0.0"),
        (ranged("optim.momentum", "float", 0.5, 1), "4 optim.momentum", "high: optim.momentum: input should be less"),
        (ranged("train.batch_size", "int", 1.5, 4), "3 train.batch_size", "low: must be a whole number, not 1.5"),
        (ranged("train.batch_size", "int", 4, 9, "step = 4"), "4 train.batch_size", "high: 9 is not low, 4, and whole"),
        (ranged("train.batch_size", "int", 4, 8, "step = 0"), "5 train.batch_size", "step: must be above 0, not 0"),
        (chosen("optim.optimizer", "[]"), "3 optim.optimizer", "choices: must be a list of one value at least, not []"),
        (chosen("optim.optimizer", '"sgd"'), "3 optim.optimizer", "choices: must be a list of one value at least"),
        (field("optim.optimizer", 'kind = "choice"'), "1 optim.optimizer", "choices: must be a list of one value"),
        (chosen("optim.optimizer", '["sgd", "sgd"]'), "3 optim.optimizer", "choices: 'sgd' is there twice"),
        (chosen("loss.bce_weight", "[1, 1.0]"), "3 loss.bce_weight", "choices: 1.0 is there twice"),
        (chosen("optim.optimizer", '["sgd", "adam"]'), "3 optim.optimizer", "choices: optim.optimizer: 'adam' is not"),
        (chosen("optim.milestones", "[[9, 2]]"), "3 optim.milestones", "choices: optim.milestones: epochs must rise"),
        (
            chosen("augment.scales", "[[1.0, nan]]"),
            "3 augment.scales",
            "choices: augment.scales: entry 2: must be a finite number",
        ),
        (LR + MOMENTUM.replace("optimizer", "optimiser"), "9 optim.momentum", "when: optim.optimiser: no such field; "),
        (MOMENTUM + OPTIMIZER, "5 optim.momentum", "when: optim.optimizer does not stand before it; move [search."),
        (MOMENTUM.replace("optimizer", "momentum"), "5 optim.momentum", "when: optim.momentum does not stand before"),
        (
            OPTIMIZER + MOMENTUM.replace("sgd", "sdg"),
            "8 optim.momentum",
            "when: optim.optimizer is never 'sdg' here; it",
        ),
        (LR + MOMENTUM.replace("sgd", "sdg"), "9 optim.momentum", "when: optim.optimizer: 'sdg' is not a choice; did"),
        (OPTIMIZER + MOMENTUM.replace('"sgd"', "[]"), "8 optim.momentum", "when: optim.optimizer: must have one value"),
        (chosen("optim.lr", "[0.1]", "when = 3"), "4 optim.lr", "when: must name fields and their values, such as"),
        (
            LR + chosen("optim.gamma", "[1]", 'when = {"optim.lr" = 1}'),
            "8 optim.gamma",
            "when: optim.lr is a continuous",
        ),
    ],
)
def test_a_mistake_is_told_with_line_and_field(
    refused: Callable[..., list[str]], text: str, at: str, message: str
) -> None:
    number, _, name = at.partition(" ")
    (line,) = refused(text)
    assert line.startswith(f'{number}: [search."{name}"] {message}')


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "1: [search] nothing to search; give a field a range"),
        ("# nothing\n[search]\n", "2: [search] nothing to search; give a field a range"),
        ("search = 3", "1: [search] must be a table, not 3"),
        (MOMENTUM, "1: [search] nothing to search in this study: no field's condition holds"),
        ("[papers]\n" + LR, "1: [papers] no such table; did you mean paper?"),
        ('[paper]\n"optim.gamma" = 0.1\n' + LR, "2: [paper] optim.gamma is not searched here"),
        ("[paper]\noptim.lr = 0.1\n" + LR, "2: [paper] optim is not searched here; "),
        ('[paper]\n"optim.lr" = 0.2\n' + LR, "2: [paper] optim.lr 0.2 is outside its range, 1e-05 to 0.1"),
        ('[paper]\n"optim.lr" = nan\n' + LR, "2: [paper] optim.lr nan is outside its range, 1e-05 to 0.1"),
        ('[paper]\n"optim.lr" = "x"\n' + LR, "2: [paper] optim.lr 'x' is outside its range, 1e-05 to 0.1"),
    ],
)
def test_a_mistake_of_the_whole_file(refused: Callable[..., list[str]], text: str, start: str) -> None:
    assert refused(text)[0].startswith(start)


def test_all_mistakes_at_once_in_the_files_order(refused: Callable[..., list[str]]) -> None:
    text = '[paper]\n"optim.gamma" = 1\n' + ranged("optim.lr", "float", 3, -1)
    text += field("optim.momentun", "") + chosen("optim.optimizer", '["lion", "sdg"]')
    text += ranged("optim.momentum", "float", 1, "nan", 'lo = 1\nwhen = { "optim.optimiser" = "sgd" }')
    lines = refused(text)
    assert [int(line.partition(":")[0]) for line in lines] == [2, 5, 7, 11, 11, 15, 16, 17]


def test_a_missing_file_and_broken_toml(load: Load, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not TOML.*line 2"):
        load("[search]\nlow 3")
    study = with_settings(Study().for_model("unet"), {"search.space": str(tmp_path / "none.toml")}, "test")
    with pytest.raises(UserError, match=r"none\.toml: cannot be read"):
        load_space(study, any_model)


def test_a_network_that_cannot_be_built_is_refused_where_it_is_chosen(refused: Callable[..., list[str]]) -> None:
    def check(study: Study) -> None:
        model = study.model
        if model.encoder == "resnet19":
            raise UserError("model.encoder: timm has no network resnet19; did you mean resnet18?")
        if model.pretrained and model.encoder == "resnet26":
            raise UserError("model.pretrained: timm publishes no weights of resnet26")

    encoder = chosen("model.encoder", '["resnet18", "resnet19", "resnet26"]')
    pretrained = chosen("model.pretrained", "[false, true]")
    assert refused(LR + encoder + pretrained, arch="daf_net", check_model=check) == [
        "5: [search.\"model.encoder\"] model.encoder = 'resnet19' is refused: model.encoder: timm has no network "
        "resnet19; did you mean resnet18?",
        "5: [search.\"model.encoder\"] model.encoder = 'resnet26' with model.pretrained = True is refused: "
        "model.pretrained: timm publishes no weights of resnet26",
    ]


def test_ends_that_contradict_each_other_are_refused(refused: Callable[..., list[str]], load: Load) -> None:
    dice = ranged("loss.dice_weight", "float", 0, 1)
    bce = ranged("loss.bce_weight", "float", "{}", 1)
    (line,) = refused(dice + bce.format(0.0))
    assert line.startswith(
        '1: [search."loss.dice_weight"] loss.dice_weight = 0.0 is refused: loss: dice_weight and bce'
    )
    # the study's own bce_weight is 0, but no trial's is
    assert len(load(dice + bce.format(0.1)).dimensions) == 2
    (line,) = refused(dice + bce.format(0.0), loss__bce_weight=1.0)
    assert "loss.dice_weight = 0.0 with loss.bce_weight = 0.0 is refused" in line


def test_lines_of_inline_tables_comments_and_lists(refused: Callable[..., list[str]]) -> None:
    text = (
        "# a comment\n[search]  # of nothing\n"
        '"optim.milestones" = { kind = "choice", choices = [\n  [5,\n  20],\n  [9, 3]\n] }\n'
        "  [ search . 'optim.lr' ]\n    'kind'='float'\n    low = 1\n\n    high = 0\n"
    )
    assert [line.partition(" ")[0] for line in refused(text)] == ["3:", "10:"]


def test_the_example_of_the_docstring_is_a_space(load: Load) -> None:
    import eus_ray.search.space_loader

    lines = (eus_ray.search.space_loader.__doc__ or "").splitlines()
    example = "\n".join(line[4:] for line in lines if line.startswith("    "))
    assert tomllib.loads(example)["search"].keys() == {"optim.optimizer", "optim.momentum"}
    assert len(load(example).dimensions) == 2


def test_every_corner_of_a_shipped_section_loads() -> None:
    study = Study().for_model("daf_net")
    space = load_space(study, any_model)
    for section in ("optim.", "loss."):
        part = Space("", {}, tuple(one for one in space.dimensions if one.name.startswith(section)))
        for corner in itertools.product(*(one.spread(2) for one in part.dimensions)):
            names = [one.name for one in part.dimensions]
            with_settings(study, part.active(dict(zip(names, corner, strict=True))), "test")
