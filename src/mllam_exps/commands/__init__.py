"""What people look at: tables, logs and sentences about runs. Each module prints what one command asks for."""
