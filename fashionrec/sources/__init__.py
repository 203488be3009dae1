"""Where raw rows come from: folders of files, importers of public data sets, the synthetic world. What they give is judged in `ingest`."""
