"""Augmentations of token batches (and pixels), on the device, for whole batches. One file per kind."""
