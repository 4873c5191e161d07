"""What can go wrong with accounts.

AccountsError
├── AccountsUnavailableError    the database cannot be reached or written; may pass
├── AccountsIncompatibleError   it holds no accounts, or those of a newer Pantau
├── InvalidAccountError         a name, password, role, scope or expiry that cannot be; the message says which
├── UnknownAccountError         no such account or token
└── AccountConflictError        it exists already, or the last administrator would be lost
"""


class AccountsError(RuntimeError):
    """Base of all; the message is one plain sentence."""


class AccountsUnavailableError(AccountsError):
    """The database cannot be reached or written."""


class AccountsIncompatibleError(AccountsError):
    """The database is not one of accounts, or a newer Pantau wrote it."""


class InvalidAccountError(AccountsError):
    """Something that was asked for cannot be."""


class UnknownAccountError(AccountsError):
    """No such account or token."""


class AccountConflictError(AccountsError):
    """It exists already, or must not be taken away."""
