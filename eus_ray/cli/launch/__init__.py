"""Starting a study on a cluster."""
