"""The trained ensemble on new images and videos."""
