"""The state of a server outside its process: the records, the interface of a store, and the stores."""
