"""Policies that store fewer or smaller images: one file per kind of `storage.reduce`."""
