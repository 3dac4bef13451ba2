"""Split a dataset for training, validation and testing."""
