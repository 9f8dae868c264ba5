"""Documents and collections: mutable things made of immutable records.

`docs/reference/documents.md` says how they are encoded, so that clients in other languages edit the same ones.
"""
