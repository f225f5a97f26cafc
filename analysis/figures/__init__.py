"""Figures of the report."""

import logging

# its lines on fonts' weights and its cache are for programmers; the report says which letters have no font
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
