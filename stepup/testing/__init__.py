"""What the test suite of a site gets: an OpenID Provider of its own, and a person who walks through its pages.

Nothing here is imported by the rest of the package, and importing it pulls in neither the provider nor its libraries.
"""
