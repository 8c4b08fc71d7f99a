"""All I/O: clients, probes, and the one seam that times, records and redacts them."""
