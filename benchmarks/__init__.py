"""Measurements, each side by side with the limit that it is held to. ``python -m benchmarks`` runs all."""
