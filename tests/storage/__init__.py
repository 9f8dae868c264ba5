"""Tests of the storage: one suite for every backend, and what a file can suffer."""
