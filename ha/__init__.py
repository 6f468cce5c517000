"""High availability: heartbeats, roles, connection sync, takeover."""
