"""The parts of the report. Each module here has `build(results) -> Section | None` and is found by itself."""
