"""Templates of the stage `augment`: once a dataset, and once a dataset and family."""

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.augment.nodes import train_on_real, try_augmentation


def create_dataset_pipeline() -> Pipeline:
    """Return train_set → real_accuracy, the arm that every family is compared with."""
    inputs = ["train_set", "test_set", "params:augmentation", "params:seed"]
    tags = ["augment", "shared"]
    return Pipeline([Node(train_on_real, inputs, "real_accuracy", name="train_on_real", tags=tags)])


def create_family_pipeline() -> Pipeline:
    """Return real_accuracy, model → verdict."""
    inputs = ["train_set", "test_set", "real_accuracy", "model", "params:family", "params:augmentation"]
    return Pipeline([Node(try_augmentation, inputs, "verdict", name="try_augmentation", tags="augment")])
