"""The command-line interface: an HTTP client of a running server, plus `serve`, which starts one."""
