"""What people look at: Grafana dashboards as code (``grafana``) and the operator's own pages."""
