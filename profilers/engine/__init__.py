"""Whole engines: a vLLM or SGLang server with dummy weights, measured from outside over HTTP.

Reading guide: ``client`` (one request and when its tokens came), ``experiments`` (what is done to
the server and what follows from it), ``points`` (which of them), ``server`` (start and stop),
``checkpoint`` (a model folder without weights), ``run`` (journal, order, stop).
"""
