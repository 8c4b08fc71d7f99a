"""TLS endpoints and a name server whose every fault can be had."""
