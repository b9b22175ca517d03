"""The points that programs log to MLflow: kept beside their attempt, and sent from there.

A program writes them to a file (`kept`, by `mlflow_store`), and never waits for a
server. Another process (`sender`) sends what is new there, as long as the attempt works
and at its end; ``mllam-exps track sync`` sends what is left later.
"""
