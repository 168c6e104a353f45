"""The language: what a person may write, as frozen pydantic models, and the YAML reading around it.

Nothing here imports torch, numpy or any other heavy package: a login node validates specs in milliseconds.
"""
