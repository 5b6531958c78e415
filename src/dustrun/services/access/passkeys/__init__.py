"""Passkeys: what a browser is asked, what its authenticator answers, and the use cases of people."""
