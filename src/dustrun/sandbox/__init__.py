"""User code in a separate, limited, network-less process."""
