"""Study folders, score tables and mask files, read for analysis."""
