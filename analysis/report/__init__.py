"""The report: results, sections, templates."""
