"""The migrations; see `migrate.py`."""
