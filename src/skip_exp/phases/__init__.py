"""The phases of a job, one file each."""
