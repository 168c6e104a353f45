"""What trained models are tested on. One file per kind."""
