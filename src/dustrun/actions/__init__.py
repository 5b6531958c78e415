"""Actions, one per file; the folder is the family, the file name the type."""
