"""Networks whose tokens are learned from; one file per kind."""
