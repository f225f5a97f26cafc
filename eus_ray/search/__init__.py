"""The search without Ray: spaces, samplers, pruners, replay."""
