"""Decide when to train anew, whether the new model takes over, and keep both where they can be found."""
