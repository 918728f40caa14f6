"""Tests of the model owner's side."""
