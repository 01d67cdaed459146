import os

os.environ["MEDLIB_OFFLINE"] = "1"  # tests reach no other machine
os.environ["TQDM_DISABLE"] = "1"
os.environ.pop("MEDLIB_MIRROR", None)
os.environ.pop("MEDLIB_DATA", None)
