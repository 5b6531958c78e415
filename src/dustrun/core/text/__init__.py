"""Text: redaction, masking, wording, host names."""
