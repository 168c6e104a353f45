"""Stems: from embeddings or pixels (B, C, H, W) to patches (B, width, rows, columns). One file per kind."""
