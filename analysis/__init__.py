"""What a study folder, or a table of per-image scores, says: metrics, tables, figures and one report.

Neither torch nor ray is imported here, so that a laptop can analyse what a cluster trained.
"""
