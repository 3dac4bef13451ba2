"""Edit given images by a family that denoises."""
