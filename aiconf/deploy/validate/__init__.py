"""Check Dynamo manifests as a cluster would: structure, webhook, command lines, fields together."""
