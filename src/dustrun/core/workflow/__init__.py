"""A workflow document: definition, graph, conditions, control nodes, compiled program."""
