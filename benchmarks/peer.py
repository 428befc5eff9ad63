"""What the scripts of the peers share."""

import resource


def peak_memory_mib():
    """Highest resident memory of this process so far, as `distill` reads it from /proc/self/status."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def quantile(values, share):
    """The smallest value that at least this share of them does not exceed: the rule of `distill bench`."""
    ordered = sorted(values)
    rank = -(-share * len(ordered) // 1)
    return ordered[max(int(rank) - 1, 0)]
