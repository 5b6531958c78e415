"""EVM encodings: ABI, selectors, typed data, networks."""
