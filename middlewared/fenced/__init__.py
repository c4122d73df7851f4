"""The process that owns terms: voters, the record and disk heartbeats."""
