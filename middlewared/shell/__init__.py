"""Thin shells around sockets, netlink, files and clocks."""
