"""The doctor's checks, by group."""
