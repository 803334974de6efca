"""The scenario of the example project in a real browser. Run with `make e2e`; not a part of `make test`."""
