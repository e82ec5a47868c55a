"""The inverse of the writers: a Dynamo manifest as the plan that it serves by.

``manifest.read_plan`` is the way in; one file per engine reads that engine's settings.
"""
