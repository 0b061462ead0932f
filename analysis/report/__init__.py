"""Tables and the page that reports on a results folder."""
