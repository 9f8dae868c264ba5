"""Tests of accounts, and of every way to prove who one is."""
