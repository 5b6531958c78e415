"""Workflow files that an editor accepts and refuses, and the language services that say so."""
