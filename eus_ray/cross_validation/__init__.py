"""One cross-validation: what it is, and what its workers do with it.

`run` says what it is and loads no PyTorch; `worker` and `fold_on_disk` train it.
"""

from eus_ray.cross_validation.run import REPEAT, CrossValidation, folds_done, train_folds

__all__ = ["REPEAT", "CrossValidation", "folds_done", "train_folds"]
