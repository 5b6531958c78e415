"""The command line: talks HTTP to a running server; `serve` starts one."""
