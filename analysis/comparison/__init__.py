"""Models against each other and over subgroups."""
