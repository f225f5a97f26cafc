"""A study's data: manifest, folds, arrays, augmentation, the phantom, importers."""
