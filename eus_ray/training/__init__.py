"""One fold in plain PyTorch."""
