"""References are whole, in print and as BibTeX."""

from __future__ import annotations

import re

import pytest

from eus_ray.analysis.report.references import REFERENCES, Citations
from eus_ray.architectures import architectures, spec_of

DECODERS = (
    *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3", "DeepLabV3Plus", "UPerNet"),
    *("Segformer", "DPT"),
)
"""All decoders of segmentation_models_pytorch 0.6.0."""


@pytest.mark.parametrize("key", REFERENCES)
def test_a_reference_is_whole(key: str) -> None:
    reference = REFERENCES[key]
    assert re.fullmatch(r"[^,]+ [A-Z].*\. .+ \d{4}(; .+)?\.( (doi|arXiv):\S+\.)?", reference.text), reference.text
    assert ".." not in reference.text
    assert "  " not in reference.text
    assert "http" not in reference.text
    entry = reference.bibtex(key)
    assert entry.count("{") == entry.count("}")
    assert entry.startswith(f"@{reference.entry}{{{key}{reference.year},\n")
    assert "–" not in entry


def test_a_reference_in_print() -> None:
    cite = Citations()
    assert cite("tsamardinos", "holm") == "Tsamardinos et al., 2018; Holm, 1979"
    assert cite.named("seo") == "Seo et al. (2022)"
    assert cite.texts == [
        "Holm S. A Simple Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of Statistics 1979; "
        "6(2):65–70.",
        "Seo K, Lim J-H, Seo J, Nguon LS, Yoon H, Park J-S, Park S. Semantic Segmentation of Pancreatic Cancer in "
        "Endoscopic Ultrasound Images Using Deep Learning Approach. Cancers 2022; 14(20):5111. "
        "doi:10.3390/cancers14205111.",
        "Tsamardinos I, Greasidou E, Borboudakis G. Bootstrapping the out-of-sample predictions for efficient and "
        "accurate cross-validation. Machine Learning 2018; 107:1895–1922. doi:10.1007/s10994-018-5714-4.",
    ]
    with pytest.raises(KeyError):
        cite("nobody")


@pytest.mark.parametrize("arch", [*architectures(), *(f"smp:{name}" for name in DECODERS)])
def test_every_network_has_its_references(arch: str) -> None:
    assert set(spec_of(arch).citations) <= REFERENCES.keys()
    assert len(spec_of(arch).citations) == 2 or not arch.startswith("smp:")


def test_bibtex_of_an_article() -> None:
    assert REFERENCES["holm"].bibtex("holm") == (
        "@article{holm1979,\n  author = {Holm, S.},\n"
        "  title = {{A Simple Sequentially Rejective Multiple Test Procedure}},\n"
        "  journal = {Scandinavian Journal of Statistics},\n  year = {1979},\n  volume = {6},\n  number = {2},\n"
        "  pages = {65--70}\n}"
    )
