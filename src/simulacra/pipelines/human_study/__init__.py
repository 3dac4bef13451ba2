"""Ask people: the page of a study, and its key."""
