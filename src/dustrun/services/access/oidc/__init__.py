"""Signing in by OpenID Connect: an issuer and its keys, its tokens, whom it lets in, and whether it still does."""
