"""The CLI's HTTP client: requests, streams, and how failures are reported."""
