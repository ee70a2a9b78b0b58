"""Scores for every user: the scorer (numpy and torch, no Spark) and the Spark UDF around it."""
