"""Section with example images from best to worst (the paper's figure 6)."""

from __future__ import annotations

from eus_ray.analysis.figures import image_panels, style
from eus_ray.analysis.measures.outlines import outline
from eus_ray.analysis.report.page import picture, render
from eus_ray.analysis.report.results import Results, Section

_PLACES = {"Best": 1.0, "Upper quartile": 0.75, "Median": 0.5, "Lower quartile": 0.25, "Worst": 0.0}
"""Share of the other images that score lower."""


def build(results: Results) -> Section | None:
    """Build the section; None if no image with a lesion was predicted by all models."""
    if results.headline.empty or not results.cases:
        return None
    lesions = results.headline[results.headline["tp"] + results.headline["fn"] > 0]
    by_image = lesions.groupby("image_id", sort=False)["dsc"].agg(["mean", "size"])
    everywhere = by_image[by_image["size"] == len(results.models)]["mean"].sort_values(kind="stable")
    if everywhere.empty:
        return None
    chosen: dict[str, str] = {}  # with fewer than five images, each appears once
    for name, share in _PLACES.items():
        chosen.setdefault(everywhere.index[round(share * (len(everywhere) - 1))], name)
    pixels = dict(results.case_images(chosen.keys()))
    scores = results.headline.set_index(["model", "image_id"])["dsc"]
    shown = [
        image_panels.Example(
            rank=name,
            caption=style.shortened(image_id, 24),
            image=pixels[image_id],
            truth=outline(results.cases[image_id].truth()),
            found={
                model: (results.outlines[model, results.kind(model), image_id], float(scores[model, image_id]))
                for model in results.models
            },
        )
        for image_id, name in chosen.items()
    ]
    words = "; ".join(
        f"{name}, image {image_id}: "
        + ", ".join(f"{results.labels[model]} {scores[model, image_id]:.2f}" for model in results.models)
        for image_id, name in chosen.items()
    )
    files: dict[str, bytes] = {}
    drawn = picture(
        files,
        "examples",
        image_panels.examples_strip(shown, results.models, results.labels),
        f"Ultrasound images with the outlines of truth and predictions, and their DSC. {words}.",
        f"Images that show the {results.target}, from the highest to the lowest DSC (mean over the models), chosen by "
        "rank alone. White: truth. Numbers: DSC.",
        has_photos=True,
    )
    return Section(40, "examples", "Examples", render("picture.html", picture=drawn), files)
