"""Judge samples by one evaluator."""
