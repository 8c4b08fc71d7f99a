"""The practice platform: real PostgreSQL, simulated AWS, Kubernetes and web, all on loopback."""
