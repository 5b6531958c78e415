"""Long proofs (`soak_*.py`) and measurements (`bench_*.py`); each module has `run(scale, seed) -> dict`."""
