"""What is found, as documents, text, tables, figures and files.

Public: ``result.SearchResult``, ``result.EstimateResult``, ``document.search_document``.
"""
