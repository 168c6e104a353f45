"""What was done and what is known about it: workspace, claims, events, outputs, runs, and the ledger over them."""
