"""The runs of a results folder in a few small files, to be carried and committed; read back as the same run folders.

    archive/  schedules.parquet  requests.parquet  batches.parquet  metrics.parquet  files.parquet  logs.parquet

One file a kind of artefact, for all real runs of the folder. Simulated runs are not in it: they come back from their
seeds (`testbed.pipeline.restore`). An evaluation has logs.parquet alone.
"""
