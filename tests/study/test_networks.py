"""Whose code the networks of a study are: entries in provenance, and runs that find another file."""

from __future__ import annotations

import hashlib
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from eus_ray.config import ModelSettings
from eus_ray.data.dataset import check_data
from eus_ray.distributed.cross_validation import CrossValidation
from eus_ray.errors import UserError
from eus_ray.models import build_model
from eus_ray.store import PROVENANCE, STUDY, Store, write_trials
from eus_ray.study import networks
from eus_ray.study.networks import module_file, network_entry, others_modules
from eus_ray.study.prepare import prepare_dataset, renew_study, tell_warnings, write_study
from tests.helpers import Recorder, light_study
from tests.others import NETS, Package
from tests.trained import trial_row

SMP = "segmentation_models_pytorch"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    package = Package(tmp_path / "lab", "lab_of_ours")
    package.put_on_path(monkeypatch)
    return package


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def begin(package: Package, phantom: Path, folder: Path) -> Store:
    """A study folder in which the package's network has begun to train."""
    study = package.study(phantom)
    store = Store(folder)
    dataset = prepare_dataset(study, store, resume=False)
    write_study(store, dataset, dataset.arrays())
    write_trials(store, [trial_row("ours", "fixed", 0, study.for_model("ours"), "running")])
    return store


def test_modules_are_found_without_running_them(package: Package, phantom: Path) -> None:
    files = package.folder / package.name
    (files / "bare").mkdir()
    (files / "bare/inner.py").touch()
    assert module_file(package.name) == files / "__init__.py"
    assert module_file(f"{package.name}.nets") == files / "nets.py"
    assert module_file(f"{package.name}.bare") == files / "bare"
    assert module_file(f"{package.name}.bare.inner") == files / "bare/inner.py"
    for missing in (f"{package.name}.nothing", f"{package.name}.nets.deeper", "no_such_package.nets", "..", "", "sys"):
        assert module_file(missing) is None
    assert others_modules(package.study(phantom)) == [f"{package.name}.nets"]
    assert package.name not in sys.modules


def test_an_entry_says_which_file_defines_the_network(package: Package) -> None:
    entry = {"version": None, "sha256": digest(package.folder / package.name / "nets.py")}
    for arch in (f"{package.name}.nets:Net", f"{package.name}:Net"):  # the second is imported from the first
        assert network_entry(arch) == {"arch": arch, "module": f"{package.name}.nets", **entry}
    smp = network_entry("smp:FPN")
    assert smp == {"arch": "smp:FPN", "module": SMP, "version": metadata.version(SMP), "sha256": None}
    assert network_entry("daf_net") is None


def test_a_later_run_adds_the_entries_of_its_models(package: Package, phantom: Path, tmp_path: Path) -> None:
    store = begin(package, phantom, tmp_path / "study")
    first = store.read_json(PROVENANCE)["networks"]
    assert first == {"ours": network_entry(f"{package.name}.nets:Net")}
    both = light_study(phantom, 'only.fpn={"model.arch" = "smp:FPN"}', "folds.count=2", models=("fpn", "unet"))
    renew_study(store, check_data(both))
    assert store.read_json(PROVENANCE)["networks"] == first | {"fpn": network_entry("smp:FPN")}


def test_a_run_that_finds_another_file_is_refused_and_writes_nothing(
    package: Package, phantom: Path, tmp_path: Path
) -> None:
    store = begin(package, phantom, tmp_path / "study")
    study, before = package.study(phantom), store.read_text(STUDY)
    package.write(nets=NETS + "\n# changed")
    with pytest.raises(UserError) as refused:
        prepare_dataset(study, store, resume=True)
    assert refused.value.lines == (
        f"{store.location}: ours was begun with another file of the module {package.name}.nets; bring that file back, "
        "give the changed network another name among the models, or choose another output folder",
    )
    assert store.read_text(STUDY) == before
    package.write()
    assert prepare_dataset(study, store, resume=True).study == study


def test_before_anything_is_trained_and_in_older_folders_no_file_is_refused(
    package: Package, phantom: Path, tmp_path: Path
) -> None:
    store = begin(package, phantom, tmp_path / "study")
    study, written = package.study(phantom), store.read_json(PROVENANCE)
    package.write(nets=NETS + "\n# changed")
    now = digest(package.folder / package.name / "nets.py")
    store.write_json(PROVENANCE, {name: value for name, value in written.items() if name != "networks"})
    renew_study(store, prepare_dataset(study, store, resume=True))
    assert store.read_json(PROVENANCE)["networks"]["ours"]["sha256"] == now, "from here on it is known"
    store.write_json(PROVENANCE, written)
    write_trials(store, [])
    renew_study(store, prepare_dataset(study, store, resume=False))
    assert store.read_json(PROVENANCE)["networks"]["ours"]["sha256"] == now


def test_another_version_of_smp_is_told(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = light_study(phantom, 'only.fpn={"model.arch" = "smp:FPN"}', models=("fpn",))
    store, dataset = Store(tmp_path / "study"), check_data(study)
    write_study(store, dataset, dataset.arrays())
    write_trials(store, [trial_row("fpn", "fixed", 0, study.for_model("fpn"), "running")])
    version = metadata.version(SMP)
    for here, told in ((version, []), ("9.9", [f"begun with {SMP} {version}, and 9.9 is installed"])):
        monkeypatch.setattr(networks, "_version", lambda _module, here=here: here)
        heard = Recorder()
        tell_warnings([heard], dataset, store)
        assert [said for said in told if not any(said in line for line in heard.warnings)] == []
        assert any("is installed" in line for line in heard.warnings) == bool(told)
        renew_study(store, dataset)
        assert store.read_json(PROVENANCE)["networks"]["fpn"]["version"] == version, "what was trained keeps its own"


def test_a_folder_cannot_make_timm_read_or_fetch_other_weights() -> None:
    """Arguments of SMP's encoders go on to timm, which would open any file and any address."""
    for name in ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        settings = ModelSettings(arch="smp:FPN", encoder="resnet10t", args={name: "evil.pth"})
        with pytest.raises(UserError, match=f"model.args: {name} cannot be set"):
            build_model(settings, seed=0)


def test_settings_in_a_folder_name_no_other_network(phantom: Path, tmp_path: Path) -> None:
    """As the first settings of a search, or the journal of one: they are read when it is resumed."""
    run = CrossValidation(
        study=light_study(phantom).for_model("unet"),
        model="unet",
        trial=0,
        store=Store(tmp_path),
        token="",
        folds=np.zeros(1, np.int64),
        image_ids=["a"],
        patient_ids=["p"],
        arrays=dict,
    )
    assert run.as_trial(1, {"optim.lr": 0.5}).study.optim.lr == 0.5
    with pytest.raises(UserError, match=r"unet, trial 1: model\.arch is evil:Net in the study folder and unet"):
        run.as_trial(1, {"model.arch": "evil:Net"})
