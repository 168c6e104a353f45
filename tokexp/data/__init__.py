"""Sources of labelled images and of released tokens: one file per kind."""
