"""`dustrun tx` and `dustrun ledger`."""
