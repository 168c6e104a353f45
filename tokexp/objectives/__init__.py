"""Objectives: what a training phase learns from. One file per kind."""
