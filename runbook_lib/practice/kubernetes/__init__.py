"""A Kubernetes API in memory: server, store, semantics.

The official Python client and an ordinary kubectl talk to it over TLS. Kubelets, the metrics server
and the garbage collector are asked through `kubelets.Behind`; what other controllers do, they do to
the store like any client.
"""
