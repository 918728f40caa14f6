"""Tests of the EIF ring."""
