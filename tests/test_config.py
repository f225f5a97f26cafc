"""The study file: what it takes, what it refuses, and in which words."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import tomli_w

from eus_ray.config import ARCHITECTURES, LATER, AugmentSettings, Study, dotted_names, to_dotted
from eus_ray.config_file import (
    PRESETS,
    build_study,
    load_study,
    parse_override,
    read_toml,
    study_toml,
    without_effect,
)
from eus_ray.errors import UserError


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def refusal(path: Path | None = None, **options: object) -> tuple[str, ...]:
    with pytest.raises(UserError) as error:
        load_study(path, **options)  # type: ignore[arg-type]
    return error.value.lines


def test_an_empty_study_file_is_all_defaults(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, ""))
    assert study == Study()
    assert study.models == ARCHITECTURES


def test_values_reach_their_fields(tmp_path: Path) -> None:
    text = '[optim]\nlr = 1e-4\noptimizer = "sgd"\n[folds]\nstratify = ["t_stage", "lesion_size"]\n'
    study = load_study(write(tmp_path, text))
    assert (study.optim.lr, study.optim.optimizer) == (1e-4, "sgd")
    assert study.folds.stratify == ("t_stage", "lesion_size")


def test_the_file_wins_over_the_preset_and_the_command_line_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, "[optim]\nlr = 0.1\nmomentum = 0.5\n")
    study = load_study(path, preset="paper", overrides=["optim.momentum=0.25"])
    assert (study.optim.lr, study.optim.momentum, study.optim.weight_decay) == (0.1, 0.25, 0.01)


def test_the_paper_preset_is_the_paper() -> None:
    study = load_study(None, preset="paper")
    assert (study.data.image_size, study.train.batch_size, study.train.epochs, study.folds.count) == (256, 32, 50, 5)
    assert (study.optim.optimizer, study.optim.lr, study.optim.momentum) == ("sgd", 0.007, 0.9)
    assert (study.optim.weight_decay, study.optim.milestones, study.optim.gamma) == (0.01, (5, 20), 0.02)
    assert (study.augment.rotations_degrees, study.augment.scales) == ((-5, -2.5, 0, 2.5, 5), (0.9, 1, 1.1))
    assert (study.augment.elastic_alpha, study.augment.elastic_sigma) == (2.048, 20.48)
    assert study.augment.elastic_probability == 1
    assert study.model.pretrained
    assert study.model.decoder_init == "uniform"
    assert study.model.encoder.startswith("resnext101_32x8d.")
    assert study.loss.smooth == 1


def test_every_field_of_the_preset_exists() -> None:
    assert set(_dotted(read_toml(PRESETS["paper"]))) <= set(dotted_names())


def test_the_manifest_is_relative_to_the_study_file(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, '[data]\nmanifest = "set/manifest.csv"\n'))
    assert study.data.manifest == str(tmp_path / "set/manifest.csv")


def test_settings_of_one_architecture(tmp_path: Path) -> None:
    text = 'models = ["unet", "daf_net"]\n[only.unet]\n"model.width" = 16\n"optim.lr" = 0.01\n'
    study = load_study(write(tmp_path, text))
    unet, daf_net = study.for_model("unet"), study.for_model("daf_net")
    assert (unet.model.arch, unet.model.width, unet.optim.lr) == ("unet", 16, 0.01)
    assert (daf_net.model.arch, daf_net.model.width, daf_net.optim.lr) == ("daf_net", 64, 1e-3)


def test_names_without_quotes_mean_the_same(tmp_path: Path) -> None:
    """To TOML they are tables in a table; the rest of their sections stays as it is."""
    text = (
        'models = ["unet", "daf_net"]\n[model]\nencoder = "resnet18"\n[optim]\nmomentum = 0.5\n'
        "[only.unet]\noptim.lr = 0.01\nmodel.width = 16\n"
    )
    study = load_study(write(tmp_path, text), overrides=["only.daf_net.model.decoder_width=32"])
    unet, daf_net = study.for_model("unet"), study.for_model("daf_net")
    assert (unet.optim.lr, unet.optim.momentum, unet.model.width) == (0.01, 0.5, 16)
    assert (daf_net.model.decoder_width, daf_net.model.encoder) == (32, "resnet18")
    with pytest.raises(UserError, match=r"\[only.unet\] train.seed: is one for the whole study"):
        load_study(write(tmp_path, text), overrides=["only.unet.train.seed=7"])
    with pytest.raises(UserError, match=r"\[only.unet\] optim.lrr: no such field"):
        load_study(write(tmp_path, text + "optim.lrr = 1\n"))


# ---- one architecture -------------------------------------------------------------------------------


def test_an_architecture_without_models_is_the_one_to_train(tmp_path: Path) -> None:
    path = write(tmp_path, '[model]\narch = "unet"\n')
    assert load_study(path).models == ("unet",)
    assert load_study(path, preset="paper").models == ("unet",)
    assert load_study(path, models=["daf_net"]).models == ("daf_net",)
    assert load_study(path, overrides=["model.arch=daf_net"]).models == ("daf_net",)
    assert load_study(None, settings={"model.arch": "unet"}).models == ("unet",)
    assert load_study(write(tmp_path, 'models = ["unet", "daf_net"]'), overrides=["model.arch=unet"]).models == (
        "unet",
    )
    again = load_study(write(tmp_path, study_toml(load_study(path))))
    assert again == load_study(path)


def test_an_architecture_beside_other_models_is_refused(tmp_path: Path) -> None:
    for models in ('["daf_net"]', '["unet", "daf_net"]'):
        path = write(tmp_path, f'models = {models}\n[model]\narch = "unet"\n')
        (line,) = refusal(path)
        assert line.startswith(f"{path}: model.arch is 'unet', and models is [")
    assert load_study(write(tmp_path, 'models = ["unet"]\n[model]\narch = "unet"\n')).models == ("unet",)
    assert "leave one of them out" in refusal(models=["daf_net"], overrides=["model.arch=unet"])[0]
    (line,) = refusal(write(tmp_path, '[model]\narch = "U-Net"\n'))
    assert "model.arch: 'U-Net' is not a choice; did you mean unet?" in line


# ---- settings without effect ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('[model]\nencoder = "resnet18"\n', []),
        ('models = ["unet"]\n[model]\nencoder = "resnet18"\n', ["model.encoder has no effect on unet"]),
        (
            'models = ["unet", "attention_unet"]\n[model]\nencoder = "resnet18"\n[loss]\nslf_weight = 0.5\n',
            ["model.encoder, loss.slf_weight have no effect on unet and on attention_unet"],
        ),
        ('models = ["daf_net"]\n[model]\nwidth = 8\n', ["model.width has no effect on daf_net"]),
        ("[optim]\nmomentum = 0.9\n", ["optim.momentum has no effect while optim.optimizer is 'adamw'"]),
        ('[optim]\noptimizer = "sgd"\nmomentum = 0.9\n', []),
        (
            '[optim]\nschedule = "cosine"\ngamma = 0.1\nmilestones = [3]\n',
            ["optim.milestones, optim.gamma have no effect while optim.schedule is 'cosine'"],
        ),
        (
            "[augment]\nelastic_alpha = 3.0\n",
            ["augment.elastic_alpha has no effect while augment.elastic_probability is 0.0"],
        ),
        ("[augment]\nelastic_alpha = 3.0\nelastic_probability = 0.5\n", []),
        (
            '[search]\nsampler = "gp"\ngrid_points = 4\n',
            ["search.grid_points has no effect while search.sampler is 'gp'"],
        ),
        ("[search]\nasha_grace = 4\n", ["search.asha_grace has no effect while search.scheduler is 'racing'"]),
        (
            '[search]\nprotocol = "paper"\ninner_folds = 4\n',
            ["search.inner_folds has no effect while search.protocol is 'paper'"],
        ),
        (
            'models = ["daf_net"]\n[model]\npretrained = true\nweights = "w.pth"\n',
            ["model.pretrained has no effect while model.weights is "],
        ),
        (
            'models = ["unet"]\n[only.daf_net]\n"optim.lr" = 0.1\n',
            ["[only.daf_net] has no effect since models does not name daf_net"],
        ),
        ('[only.unet]\n"model.encoder" = "resnet18"\n', ["[only.unet] model.encoder has no effect on unet"]),
        (
            'models = ["unet", "daf_net"]\n[optim]\nmomentum = 0.5\n[only.unet]\n"optim.optimizer" = "sgd"\n',
            [],
        ),
        (
            'models = ["unet"]\n[optim]\nlr = 0.5\n[only.unet]\n"optim.lr" = 0.1\n',
            ["optim.lr has no effect since every model has its own in [only]"],
        ),
    ],
)
def test_settings_without_effect_are_told(tmp_path: Path, text: str, lines: list[str]) -> None:
    told = without_effect(load_study(write(tmp_path, text)))
    assert len(told) == len(lines)
    for line, expected in zip(told, lines, strict=True):
        assert line.startswith(expected)


STRONG = AugmentSettings(preset="strong")


def test_a_preset_of_augmentation_gives_way_to_fields_beside_it(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, '[augment]\nscales = [1.0]\npreset = "strong"\nnoise_probability = 0.7\n'))
    assert (study.augment.scales, study.augment.noise_probability) == ((1.0,), 0.7)
    assert study.augment == STRONG.model_copy(update={"scales": (1.0,), "noise_probability": 0.7})


@pytest.mark.parametrize("options", [["blur_sigma=3", "preset=paper"], ["preset=paper", "blur_sigma=3"]])
def test_a_later_preset_takes_the_place_of_all_of_augmentation(tmp_path: Path, options: list[str]) -> None:
    path = write(tmp_path, '[augment]\npreset = "strong"\nflip_probability = 0.1\n')
    study = load_study(path, overrides=[f"augment.{option}" for option in options])
    assert study.augment == AugmentSettings(preset="paper", blur_sigma=3.0)
    assert (study.augment.flip_probability, study.augment.noise_probability) == (0.5, 0.0)


def test_a_file_wins_over_the_augmentation_of_the_papers_preset(tmp_path: Path) -> None:
    assert load_study(write(tmp_path, '[augment]\npreset = "strong"\n'), preset="paper").augment == STRONG
    both = load_study(write(tmp_path, "[augment]\nflip_probability = 0.25\n"), preset="paper").augment
    assert both == AugmentSettings(preset="paper").model_copy(update={"flip_probability": 0.25})


def test_the_papers_augmentation_is_what_it_was_before_there_were_presets() -> None:
    old = {
        "rotations_degrees": (-5.0, -2.5, 0.0, 2.5, 5.0),
        "scales": (0.9, 1.0, 1.1),
        "flip_probability": 0.5,
        "elastic_probability": 1.0,
        "elastic_alpha": 2.048,
        "elastic_sigma": 20.48,
    }
    settings = load_study(None, preset="paper").augment.model_dump(exclude={"preset"})
    assert {name: settings[name] for name in old} == old
    others = {name: LATER[f"augment.{name}"] for name in settings if name not in old}
    assert {name: settings[name] for name in others} == others
    assert not any(value for name, value in others.items() if name.endswith("_probability"))


def test_one_models_preset_takes_the_place_of_the_studys_augmentation(tmp_path: Path) -> None:
    text = (
        'models = ["unet", "daf_net"]\n[augment]\nblur_sigma = 3.0\nflip_probability = 0.0\n[only.daf_net]\n'
        '"augment.gamma_probability" = 0.9\n"augment.preset" = "strong"\n'
    )
    study = load_study(write(tmp_path, text))
    assert study.for_model("unet").augment == AugmentSettings(blur_sigma=3.0, flip_probability=0.0)
    assert study.for_model("daf_net").augment == STRONG.model_copy(update={"gamma_probability": 0.9})
    again = load_study(write(tmp_path, study_toml(study)))
    assert again == study
    assert again.for_model("daf_net").augment == study.for_model("daf_net").augment


@pytest.mark.parametrize("preset", ["paper", "standard", "strong"])
def test_a_written_study_with_a_preset_reads_back_equal(tmp_path: Path, preset: str) -> None:
    study = load_study(None, overrides=[f"augment.preset={preset}", "augment.flip_probability=0.125"])
    path = write(tmp_path, study_toml(study))
    assert load_study(path) == study
    other = load_study(path, overrides=["augment.noise=0.5"])
    assert other.augment == study.augment.model_copy(update={"noise": 0.5})


def test_presets_of_augmentation_are_named_in_a_refusal() -> None:
    assert refusal(overrides=["augment.preset=stong"]) == (
        "the settings: augment.preset: 'stong' is not a choice; did you mean strong?",
    )


def test_nobody_has_set_what_a_preset_or_a_written_study_names(tmp_path: Path) -> None:
    study = load_study(None, preset="paper", models=["unet"])
    assert without_effect(study) == []
    assert without_effect(load_study(write(tmp_path, study_toml(study)))) == []
    encoder = ["model.encoder has no effect on unet"]
    assert without_effect(load_study(None, preset="paper", models=["unet"], overrides=["model.encoder=a"])) == encoder
    still = load_study(None, models=["unet"], overrides=["augment.preset=paper", "augment.elastic_probability=0"])
    assert without_effect(still) == []
    same = write(tmp_path, '[model]\nencoder = "resnext101_32x8d.tv_in1k"\n')
    assert without_effect(load_study(same, preset="paper", models=["unet"])) == encoder


def test_a_resolved_study_reads_back_as_itself(tmp_path: Path) -> None:
    text = 'models = ["unet"]\n[data]\nintensity = [0, 4095]\n[only.unet]\n"model.width" = 8\n'
    study = load_study(write(tmp_path, text), preset="paper")
    again = load_study(write(tmp_path, study_toml(study)))
    assert again == study
    assert set(dotted_names()) - {"only", "model.args"} <= set(_dotted(tomllib.loads(study_toml(study))))


def _dotted(tree: dict, prefix: str = "") -> list[str]:
    return [
        name
        for key, value in tree.items()
        for name in ([prefix + key] if not isinstance(value, dict) else _dotted(value, f"{prefix}{key}."))
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("3", 3), ("true", True), ('"a"', "a"), ("resnet18", "resnet18"), ("[1, 2]", [1, 2]), ("", "")],
)
def test_override_values(text: str, value: object) -> None:
    assert parse_override(f"a.b={text}") == ("a.b", value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[optim]\nlrr = 1\n", "optim.lrr: no such field; did you mean optim.lr?"),
        ("[optm]\nlr = 1\n", "optm: no such field; did you mean optim?"),
        ('[optim]\nlr = "fast"\n', "optim.lr: must be a number, not 'fast'"),
        ("[optim]\nlr = -1\n", "optim.lr: input should be greater than 0, not -1"),
        ("[optim]\nlr = inf\n", "optim.lr: must be a finite number"),
        ('[train]\nepochs = "many"\n', "train.epochs: must be a whole number, not 'many'"),
        ('[analysis]\nmargin = "big"\n', "analysis.margin: must be a number, not 'big'"),
        ('[evaluate]\nfill_holes = "maybe"\n', "evaluate.fill_holes: must be true or false, not 'maybe'"),
        ("[augment]\nscales = 2\n", "augment.scales: must be a list, not 2"),
        ("[model]\narch = true\n", "model.arch: must be a text, not true"),
        ("analysis = 3\n", "analysis: must be a table, not 3"),
        ("[train]\nepochs = 0\n", "train.epochs: input should be greater than or equal to 1, not 0"),
        ("[train]\nepochs = 1.5\n", "train.epochs: must be a whole number, not 1.5"),
        ("[data]\nimage_size = 100\n", "data.image_size: input should be a multiple of 16, not 100"),
        ('[optim]\nschedule = "cosin"\n', "optim.schedule: 'cosin' is not a choice; did you mean cosine?"),
        ("[optim]\nmilestones = [20, 5]\n", "optim.milestones: epochs must rise, not [20, 5]"),
        ('models = ["unett"]\n', "'unett' is not a choice; did you mean unet?"),
        ("models = []\n", "models: must name one model at least"),
        ('models = ["unet", "unet"]\n', "models: must name one model at least, and each once"),
        ("[augment]\nscales = []\n", "augment.scales: needs one value at least"),
        ("[loss]\ndice_weight = 0\n", "loss: dice_weight and bce_weight are both 0"),
        ("[data]\nintensity = [5, 5]\n", "data.intensity: [low, high] must rise"),
        ("[run]\nworkers = 2\nmin_workers = 3\n", "run: min_workers is 3, more than workers, 2"),
        ('[only.unet]\n"optim.lrr" = 1\n', "[only.unet] optim.lrr: no such field; did you mean optim.lr?"),
        ('[only.unet]\n"folds.count" = 3\n', "[only.unet] folds.count: is one for the whole study"),
        ('[only.unet]\n"evaluate.keep" = "largest"\n', "[only.unet] evaluate.keep: is one for the whole study"),
        ("[only.vnet]\n", "not a choice; did you mean unet?"),
        ("a = [\n", "is not TOML"),
        ("optim = 3\n", "optim: "),
    ],
)
def test_refusals_say_what_and_where(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    lines = refusal(path)
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"{path}: ")
    assert said in lines[0]


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    lines = refusal(write(tmp_path, "[optim]\nlrr = 1\nmomentum = 2\n[train]\nepochs = -1\n"))
    assert len(lines) == 3


def test_no_such_file(tmp_path: Path) -> None:
    assert "cannot be read (No such file" in refusal(tmp_path / "missing.toml")[0]


@pytest.mark.parametrize("override", ["optim.lr", "=3", "optim..lr=1", ".lr=1"])
def test_an_override_that_is_none(override: str) -> None:
    assert "write a setting as name=value" in refusal(overrides=[override])[0]


@pytest.mark.parametrize("override", ["optim.lr.x=1", "models.x=1"])
def test_an_override_below_a_value(override: str) -> None:
    (line,) = refusal(preset="paper", overrides=[override])
    assert override.split("=")[0] in line


def test_an_unknown_preset() -> None:
    assert "did you mean paper?" in refusal(preset="papre")[0]


def test_flat_names_are_dotted_names() -> None:
    study = build_study({}, "nothing")
    assert set(to_dotted(study)) <= set(dotted_names())
    assert to_dotted(study)["optim.milestones"] == [5, 20]


# ---- variants ---------------------------------------------------------------------------------------

WIDE = '[only.wide]\n"model.arch" = "unet"\n'
NOT_A_NAME = "is not a name of a-z, 0-9 and _, 40 at most"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f'models = ["unet", "wide"]\n{WIDE}"model.label" = "U-Net"\n',
            "model.label: unet and wide are both called U-Net in print",
        ),
        (f'models = ["unet", "wide"]\n[model]\nlabel = "Net"\n{WIDE}', "unet and wide are both called Net in print"),
        (
            'models = ["unet", "wide"]\n[only.wide]\n"model.width" = 96\n',
            '(a variant needs [only.wide] with "model.arch")',
        ),
        (f'models = ["unet", "wid"]\n{WIDE}', "'wid' is not a choice; did you mean wide?"),
        ('models = ["unet"]\n[only.unet]\n"model.arch" = "daf_net"\n', "model.arch: unet is an architecture itself"),
        (
            'models = ["baseline"]\n[only.baseline]\n"model.arch" = "unet"\n',
            "models: 'baseline' is kept for reports; take another name",
        ),
        ('models = ["Wide-Net"]\n[only.Wide-Net]\n"model.arch" = "unet"\n', f"models: 'Wide-Net' {NOT_A_NAME}"),
        ('models = ["_w"]\n[only._w]\n"model.arch" = "unet"\n', f"models: '_w' {NOT_A_NAME}"),
        (f'models = ["{41 * "a"}"]\n', NOT_A_NAME),
        ('models = ["smp:FPN"]\n', '[only.NAME] "model.arch" says which network a model NAME is'),
        ('models = ["ourlab.nets:Net"]\n', '[only.NAME] "model.arch" says which network a model NAME is'),
        (
            'models = ["w"]\n[only.w]\n"model.arch" = "unett"\n',
            "[only.w] model.arch: 'unett' is not a choice; did you mea",
        ),
        ('models = ["w"]\n[only.w]\n"model.arch" = "a b"\n', "others' networks are smp:NAME or module:callable"),
        ('models = ["w"]\n[only.w]\n"model.arch" = 3\n', "[only.w] model.arch: must be a text, not 3"),
        (
            f'models = ["wide"]\n{WIDE}"model.label" = " W "\n',
            "[only.wide] model.label: must be a line of text without",
        ),
        (
            f'models = ["wide"]\n{WIDE}"model.label" = "{61 * "W"}"\n',
            "[only.wide] model.label: string should have at most",
        ),
        ('models = ["unet"]\n[model]\narch = "smp:FPN"\n', "model.arch is 'smp:FPN', and models is ['unet']"),
        ('models = ["fpn2"]\n[model]\narch = "smp:FPN"\n', "model.arch is 'smp:FPN', and models is ['fpn2']"),
        ('models = "unet"\n', "models: must be a list, not 'unet'"),
        ('models = ["unet"]\n[only]\nunet = 3\n', "only.unet: must be a table, not 3"),
    ],
)
def test_variants_that_cannot_be(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    (line,) = refusal(path)
    assert line.startswith(f"{path}: ")
    assert said in line


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("{ born = 1979-05-27 }", "model.args: takes numbers, text, lists and tables (Object of type date"),
        ("{ rate = nan }", "model.args: takes numbers, text, lists and tables (Out of range float"),
        ('{ "drop-out" = 1 }', "model.args: 'drop-out' is no name of an argument"),
        ("3", "model.args: must be a table, not 3"),
    ],
)
def test_arguments_of_networks_are_plain_values_by_name(tmp_path: Path, args: str, said: str) -> None:
    path = write(tmp_path, f'models = ["w"]\n[only.w]\n"model.arch" = "ourlab.nets:Net"\n"model.args" = {args}\n')
    (line,) = refusal(path)
    assert line.startswith(f"{path}: [only.w] {said}")


def test_variants_have_their_architecture_and_what_differs(tmp_path: Path) -> None:
    text = (
        'models = ["unet", "wide", "pyramid", "ours"]\n[model]\nwidth = 8\n'
        f'{WIDE}"model.width" = 96\n"model.label" = "U-Net, wide"\n'
        '[only.pyramid]\n"model.arch" = "smp:FPN"\n"model.encoder" = "resnet10t"\n'
        '[only.ours]\n"model.arch" = "ourlab.nets:Net"\nmodel.args.depth = 5\nmodel.args.sizes = [1, 2]\n'
    )
    path = write(tmp_path, text)
    study = load_study(path)
    models = {name: study.for_model(name) for name in study.models}
    assert {name: one.model.arch for name, one in models.items()} == {
        "unet": "unet",
        "wide": "unet",
        "pyramid": "smp:FPN",
        "ours": "ourlab.nets:Net",
    }
    assert [one.label for one in models.values()] == ["U-Net", "U-Net, wide", "pyramid", "ours"]
    assert [one.name for one in models.values()] == list(study.models)
    assert (models["unet"].model.width, models["wide"].model.width) == (8, 96)
    assert models["ours"].model.args == {"depth": 5, "sizes": [1, 2]}
    assert models["pyramid"].model.encoder == "resnet10t"
    assert load_study(path, models=["ours", "wide"]).models == ("ours", "wide")


def test_written_studies_of_variants_read_back_equal(tmp_path: Path) -> None:
    text = f'models = ["unet", "wide"]\n[model]\nargs = {{ depth = 2 }}\n{WIDE}"model.width" = 96\n'
    study = load_study(write(tmp_path, text))
    assert load_study(write(tmp_path, study_toml(study))) == study
    for model in study.models:
        alone = study.for_model(model)
        assert load_study(write(tmp_path, study_toml(alone))) == alone


def test_a_study_file_that_an_older_version_wrote_is_still_read(tmp_path: Path) -> None:
    """It names every field that there was, and so `model.arch` beside `models`."""
    study = load_study(None, models=["unet", "attention_unet"], overrides=["model.width=8"])
    tree = tomllib.loads(study_toml(study))
    for section, field in [name.split(".") for name in (*LATER, "model.args", "model.label", "augment.preset")]:
        del tree[section][field]
    path = write(tmp_path, tomli_w.dumps(tree))
    assert load_study(path) == study
    assert without_effect(load_study(path)) == []


@pytest.mark.parametrize(
    ("arch", "name", "label"),
    [("smp:FPN", "fpn", "fpn"), ("ourlab.nets:BoundaryNet", "boundarynet", "boundarynet"), ("unet", "unet", "U-Net")],
)
def test_an_architecture_without_models_is_one_model(tmp_path: Path, arch: str, name: str, label: str) -> None:
    study = load_study(write(tmp_path, f'[model]\narch = "{arch}"\nwidth = 8\n'))
    assert study.models == (name,)
    alone = study.for_model(name)
    assert (alone.name, alone.label, alone.model.arch, alone.model.width) == (name, label, arch, 8)
    assert load_study(write(tmp_path, study_toml(study))) == study
    assert load_study(None, overrides=[f"model.arch={arch}", "model.width=8"]).for_model(name) == alone


def test_later_models_take_the_place_of_a_files_architecture(tmp_path: Path) -> None:
    path = write(tmp_path, '[model]\narch = "smp:FPN"\n')
    for options in ({"models": ["unet"]}, {"settings": {"models": ("unet",)}}, {"overrides": ["models=['unet']"]}):
        study = load_study(path, **options)  # type: ignore[arg-type]
        assert (study.models, study.for_model("unet").model.arch) == (("unet",), "unet")
