"""The questions of the doctor, by group."""
