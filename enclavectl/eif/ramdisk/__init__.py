"""From an image archive's layers to the two ramdisks of an EIF, and back to their entries."""
