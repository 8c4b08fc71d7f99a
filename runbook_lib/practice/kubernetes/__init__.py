"""A Kubernetes API in memory: the official Python client and kubectl talk to it over TLS.

`server` reads a request into a `calls.Call` and asks who it is (`identity`, `reviews`), whether
they may (`rbac`), and `audit` to note the answer. `reads` and `writes` are the way to the objects,
which `practice.objects` knows and keeps, `subresources` and `containers` to what lies below one;
`tables` and `columns` show them as `kubectl get` prints them.

Kubelets, the metrics server and the garbage collector are asked through `kubelets.Behind`; what
other controllers do, they do to the store like any client.
"""
