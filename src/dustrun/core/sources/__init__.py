"""What shaped a spend. `source.py` names sources, `slicer.py` finds them, `spend_slice.py` gives them by field."""
