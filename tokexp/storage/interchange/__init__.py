"""Token stores in the forms of others: SeiT's released files, NumPy, Hugging Face datasets, WebDataset shards."""
