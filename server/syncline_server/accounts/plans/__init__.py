"""What each change of the accounts means: functions from a registry to a `Plan`, a module for each kind. Pure.

A function that finds the rules broken raises AccountError. Who may ask for a change is decided before, by the caller.
"""
