"""The bridge beside what people use now: `make bench`."""
