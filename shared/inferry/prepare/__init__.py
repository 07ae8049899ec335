"""`inferry prepare`: of a repository one whose models start sooner and take less memory, with proof that they answer
the same. Only the command line imports this."""
