"""Answers for people: the diagnosis object, the HTML report, and its wording."""
