"""Parts of the OpenAPI document beside the routes, and how it is put together."""
