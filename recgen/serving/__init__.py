"""A service that says which image of an item a user is shown, and what works off what it could not show yet."""
