"""Losses beside that of an objective or a task. One file per kind."""
