"""What every object store has that obstore speaks to; the stores themselves are in `s3`, `google` and `azure`."""
