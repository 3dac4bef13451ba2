"""Draw samples from a fitted family."""
