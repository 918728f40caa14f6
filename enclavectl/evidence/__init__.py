"""What one keeps of a verdict: evidence files, and the checklist that judges them."""
