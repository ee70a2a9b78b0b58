"""The arrows of the way of the data, a file each: read tables, build, write, report. Jobs and notebooks call them."""
