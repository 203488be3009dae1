from fashionrec.pipeline.job import main

if __name__ == "__main__":
    main("look_up_queries")
