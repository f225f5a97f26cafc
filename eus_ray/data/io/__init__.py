"""Readers of foreign files: images, tables, videos."""
