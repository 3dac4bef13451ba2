"""Ask whether it is time to train anew, judge the champion beside its challengers, and let the best one take over."""
