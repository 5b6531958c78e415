"""Rules of the house that no linter knows; each yields what breaks it. `scripts/house_rules.py` runs them all."""
