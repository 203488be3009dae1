from fashionrec.pipeline.step import Step

STEPS: tuple[Step, ...] = ()
