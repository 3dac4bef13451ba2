"""Latent-space tools: what the codes of images can do."""
