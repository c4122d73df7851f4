"""A pair of controllers in namespaces on one machine."""
