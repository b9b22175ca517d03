"""What an attempt does inside its job: it checks its inputs, starts its program, and keeps what that makes."""
