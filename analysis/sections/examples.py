"""The best, the median and the worst image with every model's outline (the paper's figure 6)."""

from __future__ import annotations

from eus_ray.analysis import figures, style
from eus_ray.analysis.labels import model_label
from eus_ray.analysis.outlines import outline
from eus_ray.analysis.page import data_uri, render
from eus_ray.analysis.results import Results, Section


def build(results: Results) -> Section | None:
    if results.headline.empty or not results.cases:
        return None
    lesions = results.headline[results.headline["tp"] + results.headline["fn"] > 0]
    by_image = lesions.groupby("image_id", sort=False)["dsc"].agg(["mean", "size"])
    everywhere = by_image[by_image["size"] == len(results.models)]["mean"].sort_values(kind="stable")
    if everywhere.empty:
        return None
    places = {"Best": -1, "Median": len(everywhere) // 2, "Worst": 0}
    chosen = {everywhere.index[place]: name for name, place in places.items()}
    pixels = dict(results.gray_images(chosen.keys()))
    scores = results.headline.set_index(["model", "image_id"])["dsc"]
    shown = [
        figures.Example(
            caption=f"{name}: {image_id if len(image_id) <= 18 else image_id[:17] + '…'}",
            image=pixels[image_id],
            truth=outline(results.cases[image_id].truth()),
            found={
                model: (results.outlines[model, results.kind(model), image_id], float(scores[model, image_id]))
                for model in results.models
            },
        )
        for image_id, name in chosen.items()
    ]
    drawn = style.files("examples", figures.examples_strip(shown, results.models))
    words = "; ".join(
        f"{name} image {image_id}: "
        + ", ".join(f"{model_label(model)} {scores[model, image_id]:.2f}" for model in results.models)
        for image_id, name in chosen.items()
    )
    body = render(
        "figure.html",
        src=data_uri(drawn["figures/examples.png"], "image/png"),
        alt=f"Ultrasound images with the outlines of truth and predictions, and their DSC. {words}.",
        caption="The images with the highest, the median and the lowest DSC, averaged over the models, of those that "
        "show a lesion. White: truth; numbers: DSC.",
        wide=True,
    )
    return Section(40, "examples", "Examples", body, drawn)
