"""Look into the latent space of a family that has one."""
