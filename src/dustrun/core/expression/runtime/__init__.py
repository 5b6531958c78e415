"""Values of expressions at run time: types, arithmetic, comparison, limits, faults."""
