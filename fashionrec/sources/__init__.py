"""Where raw rows come from: folders, SQL queries, importers of public data sets, the synthetic world; `ingest` judges what they give."""
