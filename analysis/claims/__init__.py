"""The claims of the papers, and the ledger of what the records say of each."""
