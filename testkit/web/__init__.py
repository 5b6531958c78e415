"""The web app in a real browser: built, opened, signed in, and watched for what must not happen on any page."""
