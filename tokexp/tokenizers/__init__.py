"""Tokenizers: from images to grids of indices and, where they can, back. One file per kind."""
