"""Backbones on token embeddings or pixels, their stems and heads. One file per kind."""
