"""The command line: one thin file per command. Heavy imports happen inside the commands."""
