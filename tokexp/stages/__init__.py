"""What each stage does: the only place where components are put together. One file per kind of stage."""
