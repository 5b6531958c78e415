"""What the OpenAPI document says beside the routes, and how it is put together."""
