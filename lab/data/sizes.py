"""How many labels a run has in each cycle, from ``cold_start`` and ``query.labels`` of its protocol."""

Sizes = int | list[int]


def query_of(query: Sizes, cycle: int) -> int:
    """Labels that a cycle queries. query: for all cycles, or a list with one a cycle, whose last goes on."""
    return query if isinstance(query, int) else query[min(cycle, len(query) - 1)]


def acquired(cold_start: int, query: Sizes, cycles: int) -> list[int]:
    """Images that the cold start and then each query acquired, up to what the last of so many cycles trains on."""
    return [cold_start, *(query_of(query, cycle) for cycle in range(cycles - 1))]
