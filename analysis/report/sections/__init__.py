"""Sections of the report: each module here has `build(results) -> Section | None`."""
