"""A whole study: its folder prepared, cross-validated, tuned, followed, resumed."""
