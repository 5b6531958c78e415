"""SQL, one file per noun."""
