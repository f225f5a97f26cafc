"""What to try and when to stop: spaces, samplers, pruners, replay. No Ray."""
