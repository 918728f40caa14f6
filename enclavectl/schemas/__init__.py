"""JSON Schemas (draft 2020-12) of every object that commands print and of every file that people write."""
