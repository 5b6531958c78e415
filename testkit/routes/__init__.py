"""A valid request for every route of a server, each as large as the route takes or answers."""
