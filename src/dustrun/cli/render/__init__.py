"""How the command line draws runs, reports, tables and trees."""
