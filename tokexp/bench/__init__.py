"""Benchmarks: each file measures one thing and returns rows that stand beside their bound. `tokexp bench NAME`."""
