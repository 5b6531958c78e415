"""The expression language of templates."""
