"""Does synthetic data help the user's classifier: the statistics, the protocol and the classifiers of that question."""
