"""Runtime values of expressions: types, arithmetic, comparison, limits, faults."""
