"""Numbers and outlines of one mask."""
