from fashionrec.pipeline.job import main

if __name__ == "__main__":
    main("optimise_tables")
