"""What a deployment needs of the machine and of the account, checked before anything is made."""
