"""A random life of some stores, beside a plain list of their changes."""
