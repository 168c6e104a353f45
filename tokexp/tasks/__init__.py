"""Downstream tasks: what a representation is used for. One file per kind."""
