"""What goes over the wire: bodies that come in, answers that go out, one file per noun."""
