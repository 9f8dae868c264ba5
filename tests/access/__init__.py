"""Tests of who may do what, without I/O."""
