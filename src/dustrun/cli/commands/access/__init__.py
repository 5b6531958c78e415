"""Commands for who may do what: organisations and people."""
