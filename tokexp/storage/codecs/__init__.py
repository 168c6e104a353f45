"""Codecs: how a block of indices becomes bytes. One file per kind."""
