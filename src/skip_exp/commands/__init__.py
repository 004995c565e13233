"""The commands beside jobs and sweeps: one file each, with a function ``main(arguments)``."""
