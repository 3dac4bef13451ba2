"""Templates of the stage `human_results`: once a dataset, and once a dataset and family."""

from kedro.pipeline import Node, Pipeline

from simulacra.pipelines.human_results.nodes import hear_raters, plot_judgement, take_judgement


def create_dataset_pipeline() -> Pipeline:
    """Return key, answers → record, figure. The leaderboard and the report, which follow, are the stage `report`'s."""
    heard = ["human_key", "params:human_results"]
    return Pipeline(
        [
            Node(hear_raters, heard, "human_record", name="hear_raters", tags="human_results"),
            Node(plot_judgement, "human_record", "human_figure", name="plot_judgement", tags="human_results"),
        ]
    )


def create_family_pipeline() -> Pipeline:
    """Return record → what it says of one family."""
    inputs = ["human_record", "params:family"]
    return Pipeline([Node(take_judgement, inputs, "human_metrics", name="take_judgement", tags="human_results")])
