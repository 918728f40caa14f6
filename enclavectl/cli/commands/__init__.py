"""One module for each word that a user types after ``enclavectl``; cli/app.py has the table of them."""
