"""The data of a study: manifest, folds, arrays, augmentation, the phantom, importers."""
