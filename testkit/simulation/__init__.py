"""The whole server in one thread and in virtual time, from one seed: see docs/concepts/how-it-is-tested.md."""
