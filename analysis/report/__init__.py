"""Report: results, sections and templates."""
