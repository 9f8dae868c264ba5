"""The tests: a folder for each part, named like it."""
