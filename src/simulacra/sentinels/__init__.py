"""Sentinels: what goes wrong in a training, seen while it runs, with the usual remedy."""
