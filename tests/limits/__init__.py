"""Bounds on how much and how often."""
