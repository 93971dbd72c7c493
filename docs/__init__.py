"""The documentation: pages, and in ``generate`` the programs that write some of them."""
