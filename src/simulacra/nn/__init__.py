"""Layers and densities that families share."""
