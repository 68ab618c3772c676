"""The backends on database servers: PostgreSQL, MySQL and MariaDB."""
