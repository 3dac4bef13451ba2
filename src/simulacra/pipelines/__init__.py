"""One folder a stage: plain functions in nodes.py, the graph template in pipeline.py."""
