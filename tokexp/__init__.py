"""tokexp: a language for experiments in token-based, storage-efficient vision training, and the machine for them."""

__version__ = "0.1.0"
