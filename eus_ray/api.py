"""The Python interface, as far as it is more than a room's own functions; `import eus_ray` has all of it.

    study = eus_ray.load_study("study.toml", **{"train.epochs": 10})
    eus_ray.cross_validate(study, "results", callbacks=[MyCallback()])
    results = eus_ray.open_study("results")
    results.images().groupby("model")["dsc"].mean()

Nothing of it prints; a `Callback` hears what goes on. A mistake in what was given raises `UserError`. The command line
is a thin user of it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eus_ray import config_file
from eus_ray.config import Study
from eus_ray.errors import UserError
from eus_ray.store import SELECTION, SELECTION_FILE, STUDY, Store, read_trials

if TYPE_CHECKING:
    import pandas as pd

    from eus_ray.analysis.report.results import Results
    from eus_ray.study.callbacks import Callback
    from eus_ray.study.cross_validate import Outcome

__all__ = ["StudyResults", "compare", "load_study", "open_study", "tune"]


def load_study(path: str | Path | None = None, **settings: Any) -> Study:
    """Read a study file and check it whole; settings win over the file, and the file over a preset.

    Args:
        path: A TOML file; None if the settings say everything.
        settings: Fields by dotted name, as `**{"optim.lr": 1e-4}`, or `models=[…]`. A manifest among them is relative
            to the working folder, one in the file to the file. `preset="paper"` names shipped settings.

    Raises:
        UserError: With one line for each mistake.

    >>> load_study(models=["unet"], **{"train.epochs": 3}).train.epochs
    3
    """
    return config_file.load_study(path, preset=settings.pop("preset", None), settings=settings)


def tune(
    study: Study,
    out: str | Path,
    *,
    resume: bool = False,
    address: str | None = None,
    start_from: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
) -> Outcome:
    """Search the settings of every architecture, train each winner, and estimate what the search has found.

    Args:
        study: What to train and, in `search`, how to search.
        out: The study folder, a path or a URI; new, or of the same study.
        resume: Whether to go on with models that the folder holds already.
        address: Of a running Ray cluster; a local one is started if there is none.
        start_from: Another study folder, whose best settings are tried first.
        callbacks: Who hears how it goes on.

    Returns:
        How each model ended, and the estimates as lines of text.

    Raises:
        UserError: If the study, its data, its space or the folder are not as they must be; then nothing is written.
    """
    from eus_ray.analysis.comparison.search_statements import headline
    from eus_ray.analysis.comparison.selection_bias import write_selection
    from eus_ray.analysis.inputs.settings import read_labels
    from eus_ray.study import tune as search

    outcome = search.tune(study, out, resume=resume, address=address, start_from=start_from, callbacks=callbacks)
    if outcome.is_interrupted:
        return outcome
    store = Store(out)
    lines = headline(write_selection(store), study.analysis.average, read_labels(store, read_trials(store)))
    return replace(outcome, headline=tuple(lines))


def open_study(path: str | Path) -> StudyResults:
    """Open the results of a study, which may still be running.

    Args:
        path: The study folder, a path or a URI.

    Raises:
        UserError: If there is no study.
    """
    store = Store(path)
    if not store.exists(STUDY):
        raise UserError(f"{store.location}: is no study folder (no {STUDY})")
    return StudyResults(store)


class StudyResults:
    """The results in a study folder. Each table is read when it is asked for, and images once.

    Args:
        store: The study folder.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @cached_property
    def _results(self) -> Results:
        from eus_ray.analysis.report.results import read_study

        return read_study(self._store)

    def images(self) -> pd.DataFrame:
        """Return the metrics of each image: the columns of report/images.parquet."""
        return self._results.images

    def trials(self) -> pd.DataFrame:
        """Return the trials with their states and settings: trials.parquet."""
        return read_trials(self._store)

    def selection(self) -> pd.DataFrame:
        """Return what the searches have found: selection.parquet; no rows without a search."""
        if not self._store.exists(SELECTION_FILE):
            return SELECTION.empty_table().to_pandas()
        return self._store.read_table(SELECTION_FILE).to_pandas()

    def claims(self) -> pd.DataFrame:
        """Return what can be said of each pair of models in each metric: report/claims.csv; no rows of one model."""
        return self._table("claims.csv")

    def statistics(self) -> pd.DataFrame:
        """Return all tests: report/statistics.csv."""
        return self._table("statistics.csv")

    def figures(self) -> Mapping[str, bytes]:
        """Return the report's figures as SVG and PNG files, by name."""
        from eus_ray.analysis.report.report import build_sections

        return {
            name: data
            for section in build_sections(self._results)
            for name, data in section.files.items()
            if name.startswith("figures/")
        }

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        from eus_ray.analysis.report.sections import claims

        section = claims.build(self._results)
        return pd.DataFrame() if section is None else pd.read_csv(io.BytesIO(section.files[name]))


def compare(scores: pd.DataFrame, metric: str = "dsc") -> pd.DataFrame:
    """Compare models by per-image scores, patient by patient: what can be claimed of each pair.

    Args:
        scores: One row a model and image with `model, image_id, patient_id` and the metric; `fold` is optional.
        metric: The column to compare.

    Returns:
        The columns of report/claims.csv, one row a pair; none for a single model.

    Raises:
        UserError: With one line for each defect of the scores.
    """
    from eus_ray.analysis.comparison.claims import claims_table
    from eus_ray.analysis.comparison.pairwise import compare_pairs, read_training
    from eus_ray.analysis.comparison.score_matrix import align
    from eus_ray.analysis.comparison.verdicts import Background
    from eus_ray.analysis.inputs.score_table import checked_scores

    if metric not in scores:
        raise UserError(f"the scores have no column {metric}")
    frame = scores.reset_index(drop=True)
    names = {name: frame[name].astype(str) for name in ("model", "image_id", "patient_id") if name in frame}
    checked = checked_scores(frame.assign(**names), "the scores")
    kinds = dict(zip(checked["model"], checked["kind"], strict=True))
    pairs = compare_pairs(align(checked, [metric]), read_training(checked, kinds, {}))
    return claims_table(pairs, Background(kinds))
