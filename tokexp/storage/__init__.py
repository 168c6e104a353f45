"""The token store: indices, labels and codebook of a data set in one file, within a budget, every byte counted."""
