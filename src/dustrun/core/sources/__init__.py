"""Sources that shape a spend: `source.py` names them, `slicer.py` finds them, `spend_slice.py` gives them by field."""
