"""The recorder of what Docker's own matcher of ignore files says."""
