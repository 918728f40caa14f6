"""Demonstrations: each attack that the design refuses, tried on enclaves of the local backend.

``demonstrate`` (enclavectl.selftest.demonstrations) makes them one after the other. An attack counts as
refused only with one of the codes that it is known by; any other end is a failure of the demonstration.
"""
