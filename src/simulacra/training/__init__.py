"""One training loop for every neural network of the project, and what it stands on."""
