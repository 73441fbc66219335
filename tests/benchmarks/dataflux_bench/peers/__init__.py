"""The programs that are measured. Each runs in a process of its own and imports only what a user of it would import."""
