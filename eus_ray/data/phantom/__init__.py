"""Synthetic endoscopic ultrasound with masks and clinical columns."""
