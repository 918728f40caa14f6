"""Files for others' supervisors."""
