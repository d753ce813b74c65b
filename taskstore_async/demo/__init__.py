"""What ``tstore demo`` runs."""
