"""Token morphing: levels, group means, and the loss between them."""
