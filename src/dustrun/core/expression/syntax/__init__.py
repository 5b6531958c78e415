"""The grammar: parsing and printing."""
