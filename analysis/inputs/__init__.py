"""What is analysed: study folders, score tables, mask files."""
