"""What stands in for nodes, kubelets, scheduler and controllers behind the practice API."""
