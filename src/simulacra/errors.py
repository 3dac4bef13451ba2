"""The one exception that a user's mistake raises; the command line prints it without a traceback."""


class SimulacraError(Exception):
    """A mistake that the user can mend: the message names the thing at fault and the remedy."""
